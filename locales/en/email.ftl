email-code-text = A mail was sent to this address. Open the link in it, or enter its code.
email-code = Code from the mail
email-resend = Send another mail
email-confirmed-elsewhere = I have opened the link already
email-verify-title = Confirm your email
email-verify-text = Confirm that this address is yours.
email-confirm = Confirm
email-not-mine = You did not create this account, or do not know its password?
email-choose-new = Choose a new password

email-register-title = Confirm your registration
email-register-text = Enter the password of your registration to create the account.

email-reset-title = Reset your password
email-request-text = Enter the email address of your account. If it has one, a mail with a link is sent to it.
email-reset-text = All your sessions end, and you log in with the new password.
email-new-password = New password
email-send = Send the mail
email-reset = Set the password

email-change-title = Change your email
email-change-text = A mail with a link is sent to the new address. The present one is used until you open it.
email-confirm-title = Use this email?
email-confirm-text = Confirm that this address is yours and belongs to your account.

email-object-title = Keep your email
email-object-text = The account keeps this address. Choose a new password: everybody else is logged out.
email-object = Keep the address

email-verified = Your email is confirmed
email-verified-text = You can go on where you were, or close this page.
email-password-set = Your password is set
email-password-set-text = All sessions have ended. Log in with the new password.
email-sent = Check your mailbox
email-reset-sent-text = If this address has an account, a mail with a link is on its way to it. If it does not arrive, check the spam folder.
email-register-sent-text = A mail is on its way to this address. Open the link in it to go on. If it does not arrive, check the spam folder.
email-change-sent-text = A mail is on its way to the new address. Open the link in it to use that address.
email-changed = Your email is changed
email-changed-text = You log in with the new address from now on.
email-invalid = This link is not valid
email-invalid-text = It was used, has expired or was replaced by a newer one. Log in to get another mail.

email-forgot = Forgot your password?
email-unverified = This address is not confirmed yet.
problem-no-password = Your account has no password yet. Set one first: log out and choose “Forgot your password?”.
problem-wrong-password = Wrong password. Check it and try again.
problem-wrong-mail-code = This code is wrong or has expired. Check it, or have another mail sent.
