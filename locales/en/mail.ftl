mail-verify-subject = Confirm your email address
mail-verify-text = This address was entered for an account at { $brand }. Please confirm that it is yours.
mail-verify-button = Confirm the address
mail-verify-code = Or enter this code on the page that asks for it:
mail-verify-not-you = If you have no account there, another person entered your address. Open the link and choose a new password: the account is then yours alone.

mail-register-subject = Confirm your registration
mail-register-text = This address was entered for a new account at { $brand }. The account is created once you confirm.
mail-register-button = Create the account
mail-ignore = If this was not you, ignore this mail: no account is created.

mail-in-use-subject = You have an account already
mail-in-use-text = Your address was entered at { $brand }, but it belongs to an account that exists. Log in to it, or reset its password there if you have forgotten it.
mail-in-use-not-you = If this was not you, ignore this mail: nothing was changed.

mail-reset-subject = Reset your password
mail-reset-text = A new password was requested for your account at { $brand }.
mail-reset-button = Choose a new password
mail-reset-not-you = If this was not you, ignore this mail: your password stays as it is.

mail-change-subject = Confirm your new email address
mail-change-text = This address was entered as the new one of an account at { $brand }. Please confirm that it is yours.
mail-change-button = Use this address
mail-change-not-you = If you have no account there, ignore this mail.

mail-requested-subject = Your email address is to be changed
mail-requested-text = A new address, { $address }, was entered for your account at { $brand }. It is changed once that address is confirmed.
mail-changed-subject = Your email address was changed
mail-changed-text = Your account at { $brand } now has another address, { $address }. This is the last mail to the old one.
mail-changed-admin = An administrator has changed it. If you did not ask for that, contact them.
mail-object-button = I did not do this
mail-object-text = If this was not you, somebody knows your password. With the link you keep this address and choose a new password; everybody else is logged out.

mail-password-subject = Your password was changed
mail-password-text = The password of your account at { $brand } was changed, and all sessions were ended.
mail-password-not-you = If this was not you, reset the password now on the login page, and contact the operator.

mail-device-subject = A login from a new device
mail-device-text = Somebody has logged in to your account at { $brand } from a device and a network that it was not used from before.
mail-device-time = Time: { $time }
mail-device-browser = Browser: { $browser }
mail-device-other-browser = Browser: another program
mail-device-address = IP address: { $address }
mail-device-not-you = If this was you, there is nothing to do. If not, somebody knows your password: reset it now on the login page, which ends all sessions.

mail-test-subject = A test mail
mail-test-text = The settings of { $brand } are right: this mail has arrived.

mail-half-hour = The link can be used once, within 30 minutes.
mail-hour = The link can be used once, within an hour.
mail-day = The link can be used once, within 24 hours.
mail-week = The link can be used once, within seven days.

mail-deletion-subject = Your account will be deleted
mail-deletion-text = The deletion of your account at { $brand } was requested. It will be deleted on { $date }, with everything in it. Until then you can keep it: log in.
mail-deletion-not-you = If this was not you, log in now to keep the account, and change your password.

mail-invitation-subject = You are invited
mail-invitation-text = You are invited to create an account at { $brand }. The link is valid until { $date } and creates one account.
mail-invitation-button = Create the account
mail-invitation-not-you = If you did not expect this, ignore this mail: no account is created.
