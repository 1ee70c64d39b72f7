login-title = Log in to continue to { $client }
login-to = to continue to { $client }
login-again = Confirm it’s you
login-again-text = Enter your password once more.
login-again-client = { $client } asks you to enter your password once more.
login-name = Email or username
login-password = Password
login-no-account = No account yet?
login-register = Create one

register-to = Then you will continue to { $client }.
register-email = Email
register-username = Username
register-optional = optional
register-username-hint = A short name to log in with instead of the email
register-password = Password
register-password-hint =
    { $count ->
        [one] At least { $count } character. A few uncommon words make a good one.
       *[other] At least { $count } characters. A few uncommon words make a good one.
    }
register-have-account = Already have an account?

refusal-email-missing = Enter your email address.
refusal-email-long = An email address has at most 254 characters.
refusal-email-characters = An email address has no spaces, commas, quotes or brackets.
refusal-email-at = An email address has exactly one @, as in name@example.org.
refusal-email-local = Check the part before the @.
refusal-email-domain = Check the part after the @: it is not a domain.
refusal-email-taken = There is already an account with this email. Log in, or use another address.
refusal-username-length = A username has 3 to 32 characters.
refusal-username-characters = A username has letters, digits, dots, hyphens and underscores only.
refusal-username-start = A username starts with a letter or a digit.
refusal-username-taken = This username is taken. Choose another.
refusal-password-short =
    { $count ->
        [one] Use at least { $count } character.
       *[other] Use at least { $count } characters.
    }
refusal-password-long =
    { $count ->
        [one] This password is too long: it may take { $count } byte.
       *[other] This password is too long: it may take { $count } bytes.
    }
refusal-password-listed = This password is on a list that attackers try first. Choose another.
refusal-password-personal = Do not use your email address, your name or this service’s name as the password.
refusal-password-easy = This password is too easy to guess. Add another word or two; uncommon words are better.

select-title = Continue with this account?
select-to = You will continue to { $client }.
select-text = You are already logged in here.
select-continue = Continue
select-other = Use another account

logout-title = Do you want to log out?
logout-client = { $client } asks to log you out.
logout-account = You are logged in as { $account }.
logout-text = This ends your login in this browser, and with it the access of applications that rely on it.
logout-stay = Stay logged in

logged-out-title = You are logged out
logged-out-text = You can close this page.
logged-out-return = Return to { $client }
logged-out-again = Log in again

account-title = You are logged in
account-text = There is nothing more to do here. Open the application you need: it will let you in.
account-docs = API documentation
