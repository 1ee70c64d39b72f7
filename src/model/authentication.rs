//! How a user has authenticated: methods (`amr`, RFC 8176) and the class they add up to (`acr`,
//! OpenID Connect Core §2).

/// The class of a login by one factor.
pub const ACR_PASSWORD: &str = "urn:propusk:acr:password";

/// The class of a login by two factors: a password and a code or passkey, or a passkey that has
/// verified its user.
pub const ACR_MFA: &str = "urn:propusk:acr:mfa";

/// Every class, the strongest first.
pub const ACR_VALUES: [&str; 2] = [ACR_MFA, ACR_PASSWORD];

/// The method of a password (RFC 8176 §2).
pub const PASSWORD: &str = "pwd";
/// A one-time password.
pub const OTP: &str = "otp";
/// A key in one device.
pub const HARDWARE_KEY: &str = "hwk";
/// A key that can be copied to other devices.
pub const SOFTWARE_KEY: &str = "swk";
/// The user was present.
pub const USER: &str = "user";
/// Several factors.
pub const MFA: &str = "mfa";

/// The class that the methods of a login add up to.
pub fn acr(amr: &[String]) -> &'static str {
    if amr.iter().any(|method| method == MFA) { ACR_MFA } else { ACR_PASSWORD }
}

/// Whether a login of class `acr` satisfies a request for one of `wanted`; any does where none is.
/// Two factors include the first.
pub fn satisfies(acr: &str, wanted: &[String]) -> bool {
    wanted.is_empty()
        || wanted.iter().any(|one| one == acr)
        || (acr == ACR_MFA && wanted.iter().any(|one| one == ACR_PASSWORD))
}

/// The methods, those of a login and of a later step together.
pub fn and(amr: &[String], further: &[&str]) -> Vec<String> {
    let mut all = amr.to_vec();
    for method in further {
        if !all.iter().any(|known| known == method) {
            all.push((*method).to_owned());
        }
    }
    all
}

/// How strongly a request asks for a second factor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecondFactorRequest {
    #[default]
    None,
    /// A user who has one is asked for it.
    Preferred,
    /// A user who has none sets one up.
    Required,
}

impl SecondFactorRequest {
    /// What a list of classes asks for, in order of preference (Core §3.1.2.1). Unknown ones are
    /// ignored.
    pub fn of<'a>(wanted: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known = wanted.into_iter().filter(|one| ACR_VALUES.contains(one));
        match known.next() {
            Some(ACR_MFA) if known.any(|one| one == ACR_PASSWORD) => Self::Preferred,
            Some(ACR_MFA) => Self::Required,
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_factors_satisfy_a_request_for_one() {
        let wanted = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        assert!(satisfies(ACR_MFA, &wanted(&[ACR_PASSWORD])));
        assert!(satisfies(ACR_PASSWORD, &wanted(&[ACR_MFA, ACR_PASSWORD])));
        assert!(!satisfies(ACR_PASSWORD, &wanted(&[ACR_MFA])));
        assert!(!satisfies(ACR_MFA, &wanted(&["urn:other"])));
        assert!(satisfies(ACR_PASSWORD, &[]));
    }

    #[test]
    fn the_order_of_acr_values_decides() {
        use SecondFactorRequest as R;
        assert_eq!(R::of([ACR_MFA]), R::Required);
        assert_eq!(R::of(["x", ACR_MFA]), R::Required);
        assert_eq!(R::of([ACR_MFA, ACR_PASSWORD]), R::Preferred);
        assert_eq!(R::of([ACR_PASSWORD, ACR_MFA]), R::None);
        assert_eq!(R::of(["x"]), R::None);
    }
}
