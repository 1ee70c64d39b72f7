password-title = Сменить пароль
password-text = Здесь вы останетесь в системе, а на других устройствах выйдете.
password-current = Текущий пароль
password-changed-text = На всех других устройствах выполнен выход.

username-title = Сменить имя пользователя
username-text = Прежнее имя сразу сможет занять кто-то другой.

profile-title = Профиль
profile-text = Его видят приложения, которым вы это разрешили. Не заполняйте то, чего им знать не нужно.
profile-save = Сохранить
profile-saved = Профиль сохранён.
profile-name = Полное имя
profile-given-name = Имя
profile-family-name = Фамилия
profile-middle-name = Отчество или второе имя
profile-nickname = Прозвище
profile-preferred-username = Как к вам обращаться
profile-profile = Страница о вас
profile-picture = Фотография
profile-website = Сайт
profile-gender = Пол
profile-birthdate = Дата рождения
profile-zoneinfo = Часовой пояс
profile-locale = Язык
profile-phone-number = Номер телефона
profile-address-formatted = Адрес, как на конверте
profile-address-street-address = Улица и дом
profile-address-locality = Город
profile-address-region = Область или регион
profile-address-postal-code = Почтовый индекс
profile-address-country = Страна
profile-hint-url = Адрес, который начинается с https://
profile-hint-birthdate = Например, 1990-12-31; 0000-12-31 без года или только год
profile-hint-zoneinfo = Например, Europe/Moscow
profile-hint-locale = Код языка, например ru или pt-BR
profile-hint-phone = С плюсом и кодом страны, например +7 495 777-77-77

field-profile-text =
    { $count ->
        [one] Не больше { $count } символа и без невидимых символов.
       *[other] Не больше { $count } символов и без невидимых символов.
    }
field-profile-url = Введите адрес, который начинается с https://, не длиннее 1024 символов.
field-profile-birthdate = Введите существующую дату, например 1990-12-31; 0000-12-31 без года или только год.
field-profile-zoneinfo = Введите часовой пояс, например Europe/Moscow.
field-profile-locale = Введите код языка, например ru или pt-BR.
field-profile-phone = Введите номер с плюсом и кодом страны, например +7 495 777-77-77.
field-profile-long = Профиль слишком длинный. Сократите что-нибудь.
field-password-same = Выберите пароль, отличный от текущего.
