//! The declared doors as doors that are served, and what the doorway has to know of them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;

use super::Settings;
use crate::admit::{Origins, Wording};
use crate::config::{Access, Door, EVENT_ID};
use crate::doors::Intake;
use crate::doors::contract::{self, Answer, Contract};

/// What a refusal at a door's path looks like, and which pages may send there.
pub struct DoorPlate {
    pub wording: Arc<Wording>,
    pub origins: Origins,
}

/// By path.
pub fn plates(settings: &Settings) -> HashMap<String, DoorPlate> {
    let plate = |door: &Door| DoorPlate {
        wording: Arc::new(Wording::of(door)),
        origins: Origins::new(origins(settings, door)),
    };
    settings.config.doors.values().map(|door| (door.path.clone(), plate(door))).collect()
}

pub fn routes(settings: &Settings, intake: &Arc<Intake>) -> Router {
    let contract = |door: &Door| Contract {
        intake: Arc::clone(intake),
        stream: door.stream.clone(),
        open: door.access == Access::Open,
        ids: door.ids,
        plain_text: !origins(settings, door).is_empty(),
        answer: Answer::new(door.status, &door.answer, EVENT_ID),
        wording: Arc::new(Wording::of(door)),
    };
    let doors = settings.config.doors.values();
    doors.fold(Router::new(), |routes, door| routes.merge(contract::routes(&door.path, contract(door))))
}

/// The door's own, or, where nobody needs a key, what the original's variable says.
fn origins<'s>(settings: &'s Settings, door: &'s Door) -> &'s [String] {
    let open = settings.dev || door.access == Access::Open;
    match door.origins.is_empty() && open {
        true => &settings.originals.origins,
        false => &door.origins,
    }
}
