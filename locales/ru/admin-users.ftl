admin-users-login = Адрес почты или имя пользователя
admin-users-login-hint = Достаточно начала.
admin-users-none = Таких пользователей нет.
admin-users-new = Новый пользователь
admin-users-create = Создать пользователя
admin-user-open = Страница пользователя

admin-user-deletion = Будет удалён { $time } по просьбе пользователя
admin-user-verified = Адрес почты подтверждён
admin-user-external-id = Внешний ID
admin-user-saga = Регистрация в сервисе пользователей
admin-user-audit = Журнал аудита этого пользователя

admin-user-update = Изменить
admin-user-role-hint = Токены с прежней ролью сразу перестают действовать.

admin-user-no-modules = У пользователя нет модулей.
admin-user-withdraw = Отозвать
admin-user-grant-title = Выдать модуль
admin-user-grant-until = Последний день
admin-user-grant-hint = Пусто — бессрочно. День заканчивается в полночь по UTC.
admin-user-grant = Выдать
admin-user-history = Прежние модули

admin-user-sessions = Сеансы
admin-user-no-sessions = Активных сеансов нет.
admin-user-browser = Браузер
admin-user-end = Завершить
admin-user-log-out = Завершить все сеансы
admin-user-log-out-text = Завершает все сеансы в браузерах и приложениях; их токены сразу перестают действовать.

admin-user-consents = Согласия
admin-user-no-consents = Пользователь не давал согласий приложениям.

admin-user-factors = Вторые факторы
admin-user-no-factors = У пользователя нет второго фактора.
admin-user-reset = Сбросить вторые факторы
admin-user-reset-text = { $count ->
    [0] Удаляет все вторые факторы. Для следующего входа хватит пароля.
    [one] Удаляет все вторые факторы и { $count } неиспользованный резервный код. Для следующего входа хватит пароля.
    [few] Удаляет все вторые факторы и { $count } неиспользованных резервных кода. Для следующего входа хватит пароля.
   *[other] Удаляет все вторые факторы и { $count } неиспользованных резервных кодов. Для следующего входа хватит пароля.
}
admin-user-reset-confirm = Личность того, кто об этом просит, проверена другим способом.
admin-user-identities = Вход через других провайдеров
admin-user-unlink = Отвязать

admin-user-password-title = Задать пароль
admin-user-password-text = Завершает все сеансы пользователя.
admin-user-password-hint = Пусто — пароль будет создан и показан один раз.
admin-user-password-set = Задать пароль

admin-user-disable = Отключить пользователя
admin-user-disable-text = Запрещает вход, завершает все сеансы, их токены сразу перестают действовать.
admin-user-enable = Включить пользователя
admin-user-enable-text = Снова разрешает вход. Завершённые сеансы не возобновляются, запрошенное удаление отменяется.
admin-user-delete-title = Удалить пользователя
admin-user-delete-text = Удаляет аккаунт с сеансами, согласиями и модулями. Восстановить его нельзя.
admin-user-delete-confirm = Удалить этого пользователя навсегда.
admin-user-delete = Удалить

admin-done-user-created = Пользователь создан.
admin-done-user-updated = Пользователь изменён.
admin-done-user-disabled = Пользователь отключён, все сеансы завершены.
admin-done-user-enabled = Пользователь включён.
admin-done-user-logged-out = Все сеансы пользователя завершены.
admin-done-user-password = Пароль задан, все сеансы завершены.
admin-done-user-factors = Вторые факторы сброшены.
admin-done-user-unlinked = Вход отвязан.
admin-done-user-session = Сеанс завершён.
admin-done-user-granted = Модуль выдан.
admin-done-user-module-withdrawn = Модуль отозван.
admin-done-user-consent = Согласие отозвано.
admin-done-user-deleted = Пользователь удалён.

admin-invitations = Приглашения
admin-invitation-none = Приглашений нет.
admin-invitation-new = Новое приглашение
admin-invitation-text = По его ссылке можно создать один аккаунт. Если указан адрес, ссылка отправляется на него.
admin-invitation-email-hint = Пусто — для любого адреса.
admin-invitation-language = Язык письма
admin-invitation-days = Срок действия в днях
admin-invitation-days-hint = От 1 до 90.
admin-invitation-create = Пригласить
admin-invitation-link = Ссылка
admin-invitation-anybody = любой адрес
admin-invitation-expires = Истекает
admin-invitation-used = Использовано
admin-invitation-revoke = Отозвать
admin-done-invitation-revoked = Приглашение отозвано.
