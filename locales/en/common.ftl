skip = Skip to content
language-name = English
languages = Language
error-in-title = Error: { $title }
login = Log in
login-heading = Log in
register = Create an account
logout = Log out
show-password = Show password
new-tab = opens in a new tab

problem-wrong-credentials = Wrong email, username or password. Check them and try again.
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
problem-busy = The server is busy. Wait a moment and try again.
problem-no-cookie = Your browser did not send the cookie of this page. Allow cookies for this site and try again.
problem-empty = Fill in all required fields and try again.

error-bad-request = This login link doesn’t work
error-bad-request-text = Go back to the application and try again. If it happens again, contact the application’s developers.
error-bad-request-application = Go back to { $client } and try again. If it happens again, contact its developers.
error-not-found = Page not found
error-not-found-text = Check the URL or go to the home page.
error-forbidden = Access denied
error-forbidden-text = Your account lacks a permission that this page requires. Contact your administrator.
error-stale-form = This form is no longer valid
error-stale-form-text = It was opened in another browser, or you have logged in or out since. Open the page again.
error-registration-closed = Registration is closed
error-registration-closed-text = New accounts are created by an administrator. If you already have one, log in.
error-invitation-required = Registration by invitation
error-invitation-required-text = New accounts are created by invitation. Open the link of your invitation. If you already have an account, log in.
error-invitation = The invitation is not valid
error-invitation-text = It was used or revoked, or it has expired. Ask for a new one. If you already have an account, log in.
error-too-many = Too many requests
error-too-many-text = Wait a minute and try again.
error-unavailable = The service is temporarily unavailable
error-unavailable-text = Wait a moment and try again.
error-internal = Something went wrong on our side
error-internal-text = The error has been logged. Try again in a few minutes.
error-developer = For developers
error-code = Error code
error-request = Request ID
error-again = Try again
error-start = Home page

form-post-title = One moment…
form-post-text = Returning you to the application. If nothing happens, press Continue.
form-post-continue = Continue

leaving-title = Leave this site?
leaving-text = The application’s request failed, and it wants to take you to { $host }.
leaving-caution = It registered itself. Continue only if you trust it, and do not enter your password there.
leaving-continue = Continue to { $host }
