skip = Skip to content
other-language = Русский
error-in-title = Error: { $title }
login = Log in
login-heading = Log in
register = Create an account
logout = Log out
show-password = Show password
new-tab = opens in a new tab

problem-wrong-credentials = This email, username or password is not right. Check them and try again.
problem-too-many-seconds =
    { $count ->
        [one] Too many attempts. Try again in { $count } second.
       *[other] Too many attempts. Try again in { $count } seconds.
    }
problem-too-many-minutes =
    { $count ->
        [one] Too many attempts. Try again in { $count } minute.
       *[other] Too many attempts. Try again in { $count } minutes.
    }
problem-busy = The server is busy right now. Wait a moment and try again.
problem-no-cookie = Your browser did not send the cookie of this page. If cookies are off, allow them for this site. Then try again.
problem-empty = Something is not filled in. Please fill it in and try again.

error-bad-request = This request cannot be answered
error-bad-request-text = The application that sent you here asked for something that is not right. Go back to it and try again. If that does not help, tell its developers.
error-not-found = There is no such page
error-not-found-text = Check the address, or go to the start page.
error-forbidden = You have no access here
error-forbidden-text = Your account lacks a permission that this page needs. Ask whoever looks after it.
error-foreign-form = Nothing was sent
error-foreign-form-text = The page you sent this from was opened in another browser, or your login has changed since. Open it again.
error-registration-closed = Registration is closed
error-registration-closed-text = New accounts are made by the administrator of this server. If you have one, log in.
error-too-many = Too many requests
error-too-many-text = Wait a minute, then try again.
error-unavailable = The server is busy
error-unavailable-text = Nothing is lost. Wait a moment, then try again.
error-internal = Something went wrong on our side
error-internal-text = It was written down and will be looked at. Try again in a few minutes.
error-developer = For the developer
error-code = Error
error-request = Request
error-again = Try again
error-start = Start page

form-post-title = One moment…
form-post-text = We are taking you back to the application. If nothing happens, press the button.
form-post-continue = Continue
