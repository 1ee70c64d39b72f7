login-title = Log in to continue to { $client }
login-to = to continue to { $client }
reauthenticate-title = Confirm it’s you
reauthenticate-text = Enter your password again.
reauthenticate-confirm = Confirm
reauthenticate-client = { $client } asks you to enter your password again.
login-name = Email or username
login-password = Password
login-no-account = No account yet?
login-register = Create one

register-to = You will then continue to { $client }.
register-email = Email
register-username = Username
register-optional = optional
register-invited = You were invited. The invitation creates one account.
register-username-hint = You can log in with it instead of your email
register-password = Password
register-password-hint =
    { $count ->
        [one] At least { $count } character. Several uncommon words make a good password.
       *[other] At least { $count } characters. Several uncommon words make a good password.
    }
register-have-account = Already have an account?

field-email-missing = Enter your email address.
field-email-long = An email address can have at most 254 characters.
field-email-characters = An email address cannot contain spaces, commas, quotes or brackets.
field-email-hidden = An email address cannot contain invisible or direction-changing characters.
field-email-at = An email address must contain exactly one @, as in name@example.org.
field-email-local = Check the part before the @.
field-email-domain = Check the part after the @: it is not a valid domain.
field-email-taken = An account with this email already exists. Log in or use another email.
field-email-not-allowed = Addresses of this domain cannot be registered here. Use an address of your organisation.
field-email-invited = The invitation is for another address. Enter the address that it was sent to.
field-username-length = A username must have 3 to 32 characters.
field-username-characters = A username can contain only letters, digits, dots, hyphens and underscores.
field-username-hidden = A username cannot contain invisible or direction-changing characters.
field-username-marks = A username can have at most four accents on a letter.
field-username-scripts = Use letters of one script only, such as Latin or Cyrillic.
field-username-start = A username must start with a letter or digit.
field-username-taken = This username is taken. Choose another.
field-password-short =
    { $count ->
        [one] Use at least { $count } character.
       *[other] Use at least { $count } characters.
    }
field-password-long =
    { $count ->
        [one] This password is too long. Use at most { $count } byte.
       *[other] This password is too long. Use at most { $count } bytes.
    }
field-password-characters = A password cannot contain control characters. Leave them out.
field-password-listed = This password is on a list of common passwords. Choose another.
field-password-personal = Do not use your email, your username or the name of this service as your password.
field-password-easy = This password is too easy to guess. Add one or two uncommon words.

select-title = Continue with this account?
select-to = You will continue to { $client }.
select-text = You are already logged in.
select-continue = Continue
select-other = Use another account

logout-title = Log out?
logout-client = { $client } asks to log you out.
logout-account = You are logged in as { $account }.
logout-text = This ends your session in this browser and in the applications that use it.
logout-stay = Stay logged in

logged-out-title = You are logged out
logged-out-text = You can close this page.
logged-out-return = Return to { $client }
logged-out-unverified = The application wants to take you to { $host }. It registered itself: continue only if you trust it.
logged-out-again = Log in again

account-title = You are logged in
account-text = Open the application you want to use. You will not have to enter your password again.
account-applications = Your applications

terms-title = Terms of use
terms-new = Please accept the terms of use to continue.
terms-changed = The terms of use have changed. Please accept them to continue.
terms-accept = I accept the terms of use
terms-link = Terms of use
terms-privacy = Privacy policy
terms-continue = Continue
field-terms = Accept the terms of use to continue.
