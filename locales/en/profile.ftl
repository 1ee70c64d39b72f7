password-title = Change password
password-text = You stay logged in here, and are logged out everywhere else.
password-current = Current password
password-changed-text = You are logged out everywhere else.

username-title = Change username
username-text = Other users can take your old username at once.

profile-title = Profile
profile-text = Applications see it if you allow them to. Leave empty what they should not know.
profile-save = Save
profile-saved = Your profile is saved.
profile-name = Full name
profile-given-name = First name
profile-family-name = Last name
profile-middle-name = Middle name
profile-nickname = Nickname
profile-preferred-username = Name to be called by
profile-profile = Page about you
profile-picture = Picture
profile-website = Website
profile-gender = Gender
profile-birthdate = Date of birth
profile-zoneinfo = Time zone
profile-locale = Language
profile-phone-number = Phone number
profile-address-formatted = Address, as on a label
profile-address-street-address = Street and house number
profile-address-locality = City
profile-address-region = State or region
profile-address-postal-code = Postal code
profile-address-country = Country
profile-hint-url = A web address that starts with https://
profile-hint-birthdate = As in 1990-12-31; 0000-12-31 without the year, or the year alone
profile-hint-zoneinfo = As in Europe/Paris
profile-hint-locale = A language tag, as in en or pt-BR
profile-hint-phone = With + and the country code, as in +49 30 901820

field-profile-text =
    { $count ->
        [one] Use at most { $count } character, and no invisible ones.
       *[other] Use at most { $count } characters, and no invisible ones.
    }
field-profile-url = Enter a web address that starts with https://, of at most 1024 characters.
field-profile-birthdate = Enter a date that exists, as in 1990-12-31; 0000-12-31 without the year, or the year alone.
field-profile-zoneinfo = Enter a time zone, as in Europe/Paris.
field-profile-locale = Enter a language tag, as in en or pt-BR.
field-profile-phone = Enter a phone number with + and the country code, as in +49 30 901820.
field-profile-long = The profile is too long in total. Shorten some of it.
field-password-same = Choose a password other than your current one.
