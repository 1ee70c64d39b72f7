use serde_json::json;

use super::*;

fn merge(before: &UserProfile, patch: &Value) -> Result<UserProfile, Vec<Refused>> {
    let patch = patch.as_object().expect("an object");
    before.merged(patch, &ProfileClaim::ALL, Editor::Owner)
}

#[test]
fn values_are_stored_in_their_canonical_form() {
    let long = "é".repeat(128);
    for (claim, given, stored) in [
        ("name", " Ve\u{301}ra Brown ", "Véra Brown"),
        ("name", "علی\u{200c}رضا", "علی\u{200c}رضا"),
        ("nickname", long.as_str(), long.as_str()),
        ("picture", "HTTPS://Example.org/ä.png", "https://example.org/%C3%A4.png"),
        ("website", "https://example.org", "https://example.org/"),
        ("birthdate", "1990-02-28", "1990-02-28"),
        ("birthdate", "0000-02-29", "0000-02-29"),
        ("birthdate", "1990", "1990"),
        ("zoneinfo", "America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        ("zoneinfo", "Etc/GMT+5", "Etc/GMT+5"),
        ("zoneinfo", "UTC", "UTC"),
        ("locale", "PT_br", "pt-BR"),
        ("locale", "zh-hANS-cn", "zh-Hans-CN"),
        ("locale", "de-x-AB", "de-x-ab"),
        ("phone_number", "+49 (30) 901-820", "+4930901820"),
    ] {
        let next = merge(&UserProfile::default(), &json!({ claim: given }));
        assert_eq!(next.map(|next| next.as_map()[claim].clone()), Ok(json!(stored)), "{given}");
    }
}

#[test]
fn values_that_break_a_rule_are_refused_by_name() {
    let (long, wide) = ("x".repeat(129), format!("https://example.org/{}", "x".repeat(1_024)));
    for (claim, value) in [
        ("name", json!("")),
        ("name", json!(["Vera"])),
        ("name", json!(long)),
        ("given_name", json!("Ve\nra")),
        ("family_name", json!("Ve\u{202e}ra")),
        ("picture", json!("javascript:alert(1)")),
        ("picture", json!("data:image/png;base64,AA==")),
        ("picture", json!("http://example.org/a.png")),
        ("picture", json!("https:example.org")),
        ("picture", json!("https://vera:secret@example.org/")),
        ("picture", json!("https://")),
        ("website", json!(wide)),
        ("gender", json!("x".repeat(33))),
        ("birthdate", json!("1990-02-29")),
        ("birthdate", json!("0000")),
        ("birthdate", json!("1990-1-1")),
        ("birthdate", json!("1990-13-01")),
        ("birthdate", json!("01.02.1990")),
        ("zoneinfo", json!("Paris")),
        ("zoneinfo", json!("Europe/../Paris")),
        ("locale", json!("english language")),
        ("locale", json!("e")),
        ("locale", json!("en-x")),
        ("phone_number", json!("030 901820")),
        ("phone_number", json!("+0301234567")),
        ("phone_number", json!("+49 30 CALL ME")),
        ("phone_number_verified", json!(true)),
        ("updated_at", json!(0)),
        ("address", json!("Main Street 1")),
    ] {
        let refused = merge(&UserProfile::default(), &json!({ claim: value }));
        let refused = refused.expect_err("refused");
        assert_eq!(refused.len(), 1, "{claim} {value}");
        assert_eq!(refused[0].0, claim, "{value}");
    }
    let unknown = merge(&UserProfile::default(), &json!({ "role": "admin" }));
    assert!(unknown.expect_err("refused")[0].1.contains("`role`"));
}

#[test]
fn an_address_is_merged_member_by_member() {
    let one = json!({ "address": { "street_address": "1 Main St\r\nFlat 2", "country": "CA" } });
    let one = merge(&UserProfile::default(), &one).expect("valid");
    assert_eq!(one.as_map()["address"]["street_address"], "1 Main St\nFlat 2");
    let two = json!({ "address": { "country": null, "locality": "Berlin" } });
    let two = merge(&one, &two).expect("valid");
    let expected = json!({ "street_address": "1 Main St\nFlat 2", "locality": "Berlin" });
    assert_eq!(two.as_map()["address"], expected);
    assert_eq!(one.changed(&two), ["address"]);
    let none = json!({ "address": { "street_address": null, "locality": null } });
    assert!(merge(&two, &none).expect("valid").is_empty());
    let wrong = json!({ "address": { "country": 1, "planet": "Earth" } });
    let refused = merge(&one, &wrong).expect_err("refused");
    let fields: Vec<_> = refused.iter().map(|(field, _)| *field).collect();
    assert_eq!(fields, ["address.country", "address"]);
}

#[test]
fn a_verified_number_is_verified_until_it_changes() {
    let all = &ProfileClaim::ALL;
    let patch = |before: &UserProfile, patch: Value, by| {
        before.merged(patch.as_object().expect("an object"), all, by)
    };
    let number = json!({ "phone_number": "+4930901820", "phone_number_verified": true });
    let verified = patch(&UserProfile::default(), number, Editor::Administrator);
    let verified = verified.expect("valid");
    let is_verified =
        |profile: &UserProfile| profile.released(ProfileClaim::PhoneNumberVerified, Timestamp(0));
    assert_eq!(is_verified(&verified), Some(json!(true)));
    let same = json!({ "phone_number": "+49 30 901820", "name": "Vera" });
    let same = patch(&verified, same, Editor::Owner).expect("valid");
    assert_eq!(is_verified(&same), Some(json!(true)));
    let other = patch(&same, json!({ "phone_number": "+4930901821" }), Editor::Owner);
    let other = other.expect("valid");
    assert_eq!(is_verified(&other), Some(json!(false)));
    assert_eq!(same.changed(&other), ["phone_number", "phone_number_verified"]);
    let none = patch(&verified, json!({ "phone_number": null }), Editor::Owner);
    assert_eq!(is_verified(&none.expect("valid")), None);
    let nothing = json!({ "phone_number_verified": true });
    assert!(patch(&UserProfile::default(), nothing, Editor::Administrator).is_err());
}

#[test]
fn a_profile_is_bounded_as_a_whole() {
    let long = |claim: &str| (claim.to_owned(), json!("字".repeat(128)));
    let mut patch: Map<String, Value> =
        ["name", "given_name", "family_name", "middle_name", "nickname"]
            .map(long)
            .into_iter()
            .collect();
    let url = format!("https://example.org/{}", "x".repeat(900));
    for claim in ["picture", "website", "profile"] {
        patch.insert(claim.to_owned(), json!(url));
    }
    let refused = merge(&UserProfile::default(), &patch.into()).expect_err("refused");
    assert_eq!(refused, [("profile", "must not exceed 4096 bytes in total".to_owned())]);
}

#[test]
fn claims_that_are_not_in_use_can_be_removed_by_administrators() {
    let before = merge(&UserProfile::default(), &json!({ "gender": "female" })).expect("valid");
    let remove = json!({ "gender": null });
    let remove = remove.as_object().expect("an object");
    let names = [ProfileClaim::Name];
    assert!(before.merged(remove, &names, Editor::Owner).is_err());
    let after = before.merged(remove, &names, Editor::Administrator);
    assert!(after.expect("valid").is_empty());
    assert!(before.only(&names).is_empty());
}
