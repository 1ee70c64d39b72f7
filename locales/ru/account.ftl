login-title = Вход в приложение «{ $client }»
login-to = Чтобы продолжить в приложении «{ $client }»
reauthenticate-title = Подтвердите, что это вы
reauthenticate-text = Введите пароль ещё раз.
reauthenticate-confirm = Подтвердить
reauthenticate-client = Приложение «{ $client }» просит ввести пароль ещё раз.
login-name = Почта или имя пользователя
login-password = Пароль
login-no-account = Ещё нет аккаунта?
login-register = Зарегистрироваться

register-to = После этого вы продолжите в приложении «{ $client }».
register-email = Электронная почта
register-username = Имя пользователя
register-optional = необязательно
register-invited = Вас пригласили. Приглашение — на один аккаунт.
register-username-hint = Можно входить с ним вместо адреса почты
register-password = Пароль
register-password-hint =
    { $count ->
        [one] Не короче { $count } символа. Хороший пароль — несколько необычных слов.
       *[other] Не короче { $count } символов. Хороший пароль — несколько необычных слов.
    }
register-have-account = Уже есть аккаунт?

field-email-missing = Введите адрес электронной почты.
field-email-long = Адрес почты должен быть не длиннее 254 символов.
field-email-characters = В адресе почты не может быть пробелов, запятых, кавычек и скобок.
field-email-hidden = В адресе почты не может быть невидимых символов и символов, меняющих направление текста.
field-email-at = В адресе почты должен быть ровно один знак @, например name@example.org.
field-email-local = Проверьте часть адреса перед знаком @.
field-email-domain = Проверьте часть адреса после знака @: такого домена быть не может.
field-email-taken = Аккаунт с этой почтой уже есть. Войдите или укажите другую почту.
field-email-not-allowed = Адреса этого домена здесь не регистрируются. Укажите адрес вашей организации.
field-email-invited = Приглашение выдано для другого адреса. Введите адрес, на который оно пришло.
field-username-length = Имя пользователя должно содержать от 3 до 32 символов.
field-username-characters = Имя пользователя может содержать только буквы, цифры, точки, дефисы и подчёркивания.
field-username-hidden = В имени пользователя не может быть невидимых символов и символов, меняющих направление текста.
field-username-marks = В имени пользователя может быть не больше четырёх знаков над одной буквой.
field-username-scripts = Используйте буквы только одного алфавита, например латиницы или кириллицы.
field-username-start = Имя пользователя должно начинаться с буквы или цифры.
field-username-taken = Это имя пользователя занято. Выберите другое.
field-password-short =
    { $count ->
        [one] Пароль должен быть не короче { $count } символа.
       *[other] Пароль должен быть не короче { $count } символов.
    }
field-password-long =
    { $count ->
        [one] Пароль должен быть не длиннее { $count } байта.
       *[other] Пароль должен быть не длиннее { $count } байт.
    }
field-password-characters = В пароле не может быть управляющих символов. Уберите их.
field-password-listed = Этот пароль есть в списке распространённых. Выберите другой.
field-password-personal = Не используйте в качестве пароля свою почту, имя пользователя или название этого сервиса.
field-password-easy = Этот пароль слишком легко угадать. Добавьте одно-два необычных слова.

select-title = Продолжить с этим аккаунтом?
select-to = Вы продолжите в приложении «{ $client }».
select-text = Вы уже вошли.
select-continue = Продолжить
select-other = Войти в другой аккаунт

logout-title = Выйти из аккаунта?
logout-client = Приложение «{ $client }» просит завершить ваш сеанс.
logout-account = Вы вошли как { $account }.
logout-text = Ваш сеанс завершится в этом браузере и в приложениях, которые его используют.
logout-stay = Остаться

logged-out-title = Вы вышли из аккаунта
logged-out-text = Эту страницу можно закрыть.
logged-out-return = Вернуться в «{ $client }»
logged-out-unverified = Приложение хочет перенаправить вас на { $host }. Оно зарегистрировалось само: переходите, только если доверяете ему.
logged-out-again = Войти снова

account-title = Вы вошли
account-text = Откройте нужное приложение: вводить пароль ещё раз не придётся.
account-applications = Ваши приложения
