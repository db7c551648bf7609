use super::*;
use crate::Extensible;
use proptest::prelude::*;
use serde::Deserialize;

/// Three versions of one component: the second appends a field, the third changes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V1 {
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V2 {
    names: Vec<String>,
    limit: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V3 {
    names: Vec<(String, u64)>,
    limit: u32,
}

impl Saved for V1 {
    const NAME: &'static str = "test/names";
    const VERSION: u32 = 1;
}

impl Saved for V2 {
    const NAME: &'static str = "test/names";
    const VERSION: u32 = 2;
    const READABLE_BY: u32 = 1;

    fn migrate(version: u32, payload: &[u8]) -> Option<Result<Self, postcard::Error>> {
        (version == 1).then(|| postcard::from_bytes(payload).map(|V1 { names }| V2 { names, limit: 7 }))
    }
}

impl Saved for V3 {
    const NAME: &'static str = "test/names";
    const VERSION: u32 = 3;

    fn migrate(version: u32, payload: &[u8]) -> Option<Result<Self, postcard::Error>> {
        let convert = |V2 { names, limit }| V3 { names: names.into_iter().map(|n| (n, 0)).collect(), limit };
        (version == 2).then(|| postcard::from_bytes(payload).map(convert))
    }
}

fn through_bytes<T: Saved>(state: &T) -> Container {
    let mut container = Container::new();
    container.put(state).unwrap();
    Container::from_bytes(&container.to_bytes().unwrap()).unwrap()
}

fn names() -> Vec<String> {
    vec!["a".into(), "b".into()]
}

#[test]
fn neighbours_read_each_other() {
    let (v1, v2) = (V1 { names: names() }, V2 { names: names(), limit: 3 });
    let v3 = V3 { names: vec![("a".into(), 1)], limit: 3 };
    assert_eq!(through_bytes(&v1).get::<V1>(), Ok(Some(v1.clone())));
    assert_eq!(through_bytes(&v1).get::<V2>(), Ok(Some(V2 { names: names(), limit: 7 })));
    assert_eq!(through_bytes(&v2).get::<V1>(), Ok(Some(v1.clone())), "the appended field is ignored");
    let migrated = V3 { names: vec![("a".into(), 0), ("b".into(), 0)], limit: 3 };
    assert_eq!(through_bytes(&v2).get::<V3>(), Ok(Some(migrated)));
    let name = "test/names";
    let too_new = LoadError::TooNew { name, found: 3, needed: 3, known: 2 };
    assert_eq!(through_bytes(&v3).get::<V2>(), Err(too_new));
    assert_eq!(through_bytes(&v1).get::<V3>(), Err(LoadError::TooOld { name, found: 1, known: 3 }));
}

#[test]
fn unknown_sections_are_kept() {
    let stranger =
        Section { name: "future/thing".into(), version: 9, readable_by: 9, payload: vec![1, 2, 3] };
    let mut old = through_bytes(&V1 { names: names() });
    old.sections.push(stranger.clone());
    let old = Container::from_bytes(&old.to_bytes().unwrap()).unwrap();
    let mut new = through_bytes(&V2 { names: vec![], limit: 1 });
    new.carry_over(old);
    assert_eq!(new.get::<V2>(), Ok(Some(V2 { names: vec![], limit: 1 })));
    assert_eq!(new.sections().get(1), Some(&stranger));
    assert_eq!(Container::new().get::<V1>(), Ok(None));
}

#[test]
fn damage_is_an_error() {
    let whole = through_bytes(&V1 { names: names() }).to_bytes().unwrap();
    for n in 0..whole.len() {
        assert!(Container::from_bytes(&whole[..n]).is_err(), "cut at {n}");
    }
    assert_eq!(Container::from_bytes(&[&whole[..], &[0]].concat()), Err(FormatError::Trailing));
    let mut two = through_bytes(&V1 { names: names() });
    two.sections.push(two.sections[0].clone());
    assert_eq!(Container::from_bytes(&two.to_bytes().unwrap()), Err(FormatError::Duplicate));
    let mut bad = through_bytes(&V1 { names: names() });
    bad.sections[0].payload = vec![200];
    assert!(matches!(bad.get::<V1>(), Err(LoadError::Damaged { .. })));
}

#[test]
fn entries_of_a_list_may_grow() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New(u32, String);
    let list = vec![Extensible(New(1, "x".into())), Extensible(New(300, "y".into()))];
    let bytes = postcard::to_stdvec(&list).unwrap();
    assert_eq!(
        postcard::from_bytes::<Vec<Extensible<u32>>>(&bytes).unwrap(),
        [Extensible(1), Extensible(300)]
    );
    assert_eq!(postcard::from_bytes::<Vec<Extensible<New>>>(&bytes).unwrap(), list);
}

fn section() -> impl Strategy<Value = Section> {
    let payload = prop::collection::vec(any::<u8>(), 0..50);
    ("[a-z/é]{1,20}", any::<u32>(), any::<u32>(), payload)
        .prop_map(|(name, version, readable_by, payload)| Section { name, version, readable_by, payload })
}

proptest! {
    #[test]
    fn bytes_and_back(sections in prop::collection::vec(section(), 0..6)) {
        let mut container = Container::new();
        container.carry_over(Container { sections });
        let bytes = container.to_bytes().unwrap();
        prop_assert_eq!(Container::from_bytes(&bytes), Ok(container));
    }

    #[test]
    fn any_damage_is_survived(
        sections in prop::collection::vec(section(), 0..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut container = Container::new();
        container.carry_over(Container { sections });
        let mut bytes = container.to_bytes().unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz(&bytes);
        if let Ok(container) = Container::from_bytes(&bytes) {
            for section in container.sections() {
                let _ = section.load::<V3>();
            }
        }
    }
}
