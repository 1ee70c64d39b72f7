admin-users-login = Email address or username
admin-users-login-hint = Its beginning is enough.
admin-users-none = No user matches.
admin-users-new = New user
admin-users-create = Create the user
admin-user-open = Open the user

admin-user-deletion = Will be deleted { $time }, as requested by the user
admin-user-verified = Email address is verified
admin-user-external-id = External ID
admin-user-saga = Registration with the user service
admin-user-audit = Audit log of this user

admin-user-update = Change
admin-user-role-hint = Tokens with the former role are refused at once.

admin-user-no-modules = The user has no module.
admin-user-withdraw = Withdraw
admin-user-grant-title = Grant a module
admin-user-grant-until = Last day
admin-user-grant-hint = Empty: without an end. The day ends at midnight, UTC.
admin-user-grant = Grant
admin-user-history = Former modules

admin-user-sessions = Sessions
admin-user-no-sessions = The user is not logged in anywhere.
admin-user-browser = Browser
admin-user-end = Revoke
admin-user-log-out = Log out everywhere
admin-user-log-out-text = Revokes every session in browsers and applications; their tokens are refused at once.

admin-user-consents = Consents
admin-user-no-consents = The user has consented to no application.

admin-user-factors = Second factors
admin-user-no-factors = The user has no second factor.
admin-user-reset = Reset the second factors
admin-user-reset-text = { $count ->
    [0] Removes every second factor. The next login takes the password alone.
    [one] Removes every second factor and one unused recovery code. The next login takes the password alone.
   *[other] Removes every second factor and { $count } unused recovery codes. The next login takes the password alone.
}
admin-user-reset-confirm = I have verified in another way who requests this.
admin-user-identities = Logins at other providers
admin-user-unlink = Unlink

admin-user-password-title = Set a password
admin-user-password-text = Revokes every session of the user.
admin-user-password-hint = Empty: one is generated and shown once.
admin-user-password-set = Set the password

admin-user-disable = Disable the user
admin-user-disable-text = Refuses logins, revokes every session, and refuses their tokens at once.
admin-user-enable = Enable the user
admin-user-enable-text = Allows logins again. Revoked sessions stay revoked, and a requested deletion is cancelled.
admin-user-delete-title = Delete the user
admin-user-delete-text = Deletes the account with its sessions, consents and modules. It cannot be restored.
admin-user-delete-confirm = Delete this user for good.
admin-user-delete = Delete

admin-done-user-created = The user is created.
admin-done-user-updated = The user is changed.
admin-done-user-disabled = The user is disabled, and all sessions are revoked.
admin-done-user-enabled = The user is enabled.
admin-done-user-logged-out = All sessions of the user are revoked.
admin-done-user-password = The password is set, and all sessions are revoked.
admin-done-user-factors = The second factors are reset.
admin-done-user-unlinked = The login is unlinked.
admin-done-user-session = The session is revoked.
admin-done-user-granted = The module is granted.
admin-done-user-module-withdrawn = The module is withdrawn.
admin-done-user-consent = The consent is withdrawn.
admin-done-user-deleted = The user is deleted.

admin-invitations = Invitations
admin-invitation-none = There are no invitations.
admin-invitation-new = New invitation
admin-invitation-text = Its link creates one account. If an address is given, the link is sent there.
admin-invitation-email-hint = Empty: valid for any address.
admin-invitation-language = Language of the mail
admin-invitation-days = Valid for days
admin-invitation-days-hint = From 1 to 90.
admin-invitation-create = Invite
admin-invitation-link = Link
admin-invitation-anybody = anyone with the link
admin-invitation-expires = Expires
admin-invitation-used = Used
admin-invitation-revoke = Revoke
admin-done-invitation-revoked = The invitation is revoked.
