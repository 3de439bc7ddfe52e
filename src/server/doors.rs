//! The declared doors as doors that are served, and what the doorway has to know of them and of reads.

use std::collections::HashMap;
use std::sync::Arc;

use super::Settings;
use crate::admit::{Origins, Wording};
use crate::config::{Access, Door, EVENT_ID};
use crate::doors::Intake;
use crate::doors::contract::{Answer, Contract};

/// What a refusal at a contract's path looks like, and which pages may ask there.
pub struct DoorPlate {
    pub wording: Arc<Wording>,
    pub origins: Origins,
}

/// The plates of doors and reads.
#[derive(Default)]
pub struct Plates {
    whole: HashMap<String, DoorPlate>,
    /// Of paths that a key ends, by what they begin with.
    begun: Vec<(String, DoorPlate)>,
}

impl Plates {
    pub fn of(settings: &Settings) -> Self {
        let mut plates = Self::default();
        for door in settings.config.doors.values() {
            let origins = Origins::new(origins(settings, door.access, &door.origins));
            let plate = DoorPlate { wording: Arc::new(Wording::of(door)), origins };
            plates.whole.insert(door.path.clone(), plate);
        }
        for read in settings.config.reads.values() {
            let origins = Origins::new(origins(settings, read.access, &read.origins));
            let plate = DoorPlate { wording: Arc::new(Wording::under(&read.error_key)), origins };
            match read.place() {
                (path, true) => drop(plates.whole.insert(path.to_owned(), plate)),
                (begins, false) => plates.begun.push((begins.to_owned(), plate)),
            }
        }
        plates
    }

    pub fn at(&self, path: &str) -> Option<&DoorPlate> {
        let begun = || self.begun.iter().find(|(begins, _)| path.starts_with(begins));
        let without_slash = || self.whole.get(path.strip_suffix('/')?);
        self.whole.get(path).or_else(without_slash).or_else(|| begun().map(|(_, plate)| plate))
    }
}

/// The doors by their paths. Most requests are for one of these, which are known to the letter: they are
/// found here, and not by the router.
pub type Doors = HashMap<String, Arc<Contract>>;

pub fn doors(settings: &Settings, intake: &Arc<Intake>) -> Doors {
    let contract = |door: &Door| Contract {
        intake: Arc::clone(intake),
        stream: door.stream.clone(),
        open: door.access == Access::Open,
        ids: door.ids,
        plain_text: !origins(settings, door.access, &door.origins).is_empty(),
        answer: Answer::new(door.status, &door.answer, EVENT_ID),
        wording: Arc::new(Wording::of(door)),
    };
    let mut doors = Doors::new();
    for door in settings.config.doors.values() {
        let contract = Arc::new(contract(door));
        doors.extend(spellings(&door.path).into_iter().map(|path| (path, Arc::clone(&contract))));
    }
    doors
}

/// A slash at the end made no difference to the originals, so it makes none here.
pub fn spellings(path: &str) -> Vec<String> {
    let with_slash = (!path.ends_with('/')).then(|| format!("{path}/"));
    std::iter::once(path.to_owned()).chain(with_slash).collect()
}

/// Its own, or, where nobody needs a key, what the original's variable says.
fn origins<'s>(settings: &'s Settings, access: Access, own: &'s [String]) -> &'s [String] {
    let open = settings.dev || access == Access::Open;
    match own.is_empty() && open {
        true => &settings.originals.origins,
        false => own,
    }
}
