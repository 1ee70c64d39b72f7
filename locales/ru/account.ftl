login-title = Вход в приложение «{ $client }»
login-to = Чтобы продолжить в приложении «{ $client }»
login-again = Подтвердите, что это вы
login-again-text = Введите пароль ещё раз.
login-again-client = Приложение «{ $client }» просит ввести пароль ещё раз.
login-name = Почта или имя пользователя
login-password = Пароль
login-no-account = Ещё нет аккаунта?
login-register = Создайте его

register-to = После этого вы продолжите в приложении «{ $client }».
register-email = Электронная почта
register-username = Имя пользователя
register-optional = необязательно
register-username-hint = Короткое имя, чтобы входить без адреса почты
register-password = Пароль
register-password-hint =
    { $count ->
        [one] Не короче { $count } символа. Хороший пароль — несколько необычных слов.
       *[other] Не короче { $count } символов. Хороший пароль — несколько необычных слов.
    }
register-have-account = Уже есть аккаунт?

refusal-email-missing = Введите адрес электронной почты.
refusal-email-long = Адрес почты не длиннее 254 символов.
refusal-email-characters = В адресе почты нет пробелов, запятых, кавычек и скобок.
refusal-email-at = В адресе почты ровно один знак @, например name@example.org.
refusal-email-local = Проверьте часть адреса перед знаком @.
refusal-email-domain = Проверьте часть адреса после знака @: это не домен.
refusal-email-taken = Аккаунт с этой почтой уже есть. Войдите или укажите другой адрес.
refusal-username-length = В имени пользователя от 3 до 32 символов.
refusal-username-characters = В имени пользователя могут быть только буквы, цифры, точки, дефисы и подчёркивания.
refusal-username-start = Имя пользователя начинается с буквы или цифры.
refusal-username-taken = Это имя пользователя занято. Выберите другое.
refusal-password-short =
    { $count ->
        [one] Нужно не меньше { $count } символа.
       *[other] Нужно не меньше { $count } символов.
    }
refusal-password-long =
    { $count ->
        [one] Пароль слишком длинный: он может занимать { $count } байт.
        [few] Пароль слишком длинный: он может занимать { $count } байта.
       *[other] Пароль слишком длинный: он может занимать { $count } байт.
    }
refusal-password-listed = Этот пароль есть в списке, который злоумышленники пробуют первым. Выберите другой.
refusal-password-personal = Не используйте как пароль свою почту, своё имя или название этого сервиса.
refusal-password-easy = Этот пароль слишком легко угадать. Добавьте ещё одно-два слова, лучше необычных.

select-title = Продолжить с этим аккаунтом?
select-to = Вы продолжите в приложении «{ $client }».
select-text = Вы уже вошли на этом сервере.
select-continue = Продолжить
select-other = Войти в другой аккаунт

logout-title = Вы хотите выйти?
logout-client = Приложение «{ $client }» просит завершить ваш сеанс.
logout-account = Вы вошли как { $account }.
logout-text = Сеанс в этом браузере завершится, а с ним и доступ приложений, которые на него опираются.
logout-stay = Остаться

logged-out-title = Вы вышли
logged-out-text = Эту страницу можно закрыть.
logged-out-return = Вернуться в «{ $client }»
logged-out-again = Войти снова

account-title = Вы вошли
account-text = Больше здесь ничего делать не нужно. Откройте нужное приложение: оно вас пустит.
account-docs = Документация API
