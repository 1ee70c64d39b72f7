factor-title = Enter your code
factor-text = Open your authenticator app and enter the code it shows.
factor-recovery-only = Enter one of your recovery codes.
factor-code = Code
factor-recovery-hint = No access to the app? Enter one of your recovery codes instead.
factor-confirm = Confirm
factor-remember = { $count ->
    [one] Do not ask again on this device for one day
   *[other] Do not ask again on this device for { $count } days
}
problem-wrong-factor-code = Wrong code. Enter the current code of your app, or an unused recovery code. A code works once.
problem-factor-expired = This took too long. Start again.
problem-factor-name = Use a name of at most 64 characters.
problem-factor-limit = You have as many factors as you can have. Remove one first.
problem-factor-last = Your account must have a second factor. Add another one before you remove this one.

setup-title = Set up an authenticator app
setup-required = Your account must be protected by a second factor.
setup-text = You will enter a code of the app after your password.
setup-scan = Scan this QR code with an authenticator app.
setup-qr = QR code for the authenticator app
setup-secret = Or type this key into the app:
setup-open = Open the app on this device
setup-code = Code that the app shows
setup-name = Name
setup-name-hint = To recognise it later, such as “My phone”
setup-confirm = Turn on

codes-title = Save your recovery codes
codes-text = With each of them you can log in once if you lose your app.
codes-once = They are shown only now. Print them, or keep them in a password manager.
codes-continue = I have saved them

account-security = Security

security-title = Security
security-factors = Second factors
security-none = You log in with your password only. A second factor protects your account if somebody learns it.
security-required = Your account must have a second factor.
security-app = Authenticator app
security-passkey = Passkey
security-added = added { $added }
security-added-used = added { $added }, last used { $used }
security-remembered = Remembered devices
security-remembered-text = On these devices you log in with your password only. Changes to your security settings still require the second factor.
security-remembered-until = until { $until }
security-forget = Forget
security-remove = Remove
security-add-app = Add an authenticator app
security-codes = Recovery codes
security-codes-left =
    { $count ->
        [one] { $count } unused code is left.
       *[other] { $count } unused codes are left.
    }
security-renew = Get new codes
security-account = Your account
security-back = Back to security
security-cancel = Cancel
security-remove-title = Remove this factor?
security-remove-text = You will no longer be able to log in with “{ $name }”.
security-remove-last = “{ $name }” is your only second factor. Without it, your password alone protects your account, and your recovery codes stop working.
security-renew-title = Get new recovery codes?
security-renew-text = Your earlier codes stop working.

passkey-title = Add a passkey
passkey-text = You log in with the lock of your device: a fingerprint, your face or a PIN. A passkey replaces the password and the code.
passkey-script = Passkeys need JavaScript. Turn it on for this site.
passkey-create = Create a passkey
passkey-login = Log in with a passkey
passkey-use = Use a passkey
passkey-failed = The browser did not use a passkey. Try again, or choose another way.
problem-passkey = This passkey was not accepted. Try again, or log in another way.
