//! An outbox beside what its log makes: each notification has to be there, whatever became of it, and none
//! that was taken back may still be queued. It is only compared: what is missing may have been delivered and
//! cleared away, and put there again it would be sent again.

use std::collections::HashMap;

use event::limits::NOTIFICATIONS_LOOKED_UP_MAX;

use super::replay::Walk;
use super::{Asked, Difference, RebuildError, Report};
use crate::store::StoreError;
use crate::views::batch::Batch;
use crate::views::{NotificationStatus, Notifications};

pub fn compare(asked: Asked<'_>, outbox: &Notifications, mend: bool) -> Result<Report, RebuildError> {
    if mend {
        return Err(RebuildError::WouldSendAgain(asked.view.view.name.clone()));
    }
    let Some(position) = asked.position()? else {
        return Ok(Report::default());
    };
    let mut report = Report { position, ..Report::default() };
    Walk::new(asked, 0).each(position, |batch| {
        let mut found = differences(asked, outbox, batch)?;
        if !found.is_empty() {
            // What is taken back just now may have looked wrong.
            let _held = asked.hold()?;
            found = differences(asked, outbox, batch)?;
            asked.history_is_whole()?;
        }
        report.keys += batch.events.iter().filter(|event| event.corrects.is_none()).count() as u64;
        found.into_iter().for_each(|difference| report.note(difference));
        Ok(())
    })?;
    Ok(report)
}

fn differences(
    asked: Asked<'_>,
    outbox: &Notifications,
    batch: &Batch<'_>,
) -> Result<Vec<Difference>, RebuildError> {
    let gone = asked.corrected(batch.span.start, batch.span.end)?;
    let meant = batch.events.iter().filter(|event| event.corrects.is_none());
    let meant: Vec<(String, bool)> = meant
        .map(|event| (Notifications::id_of(&event.id), gone.binary_search(&event.position).is_ok()))
        .collect();
    let mut there = HashMap::with_capacity(meant.len());
    for page in meant.chunks(NOTIFICATIONS_LOOKED_UP_MAX) {
        let ids: Vec<String> = page.iter().map(|(id, _)| id.clone()).collect();
        match asked.runtime.block_on(outbox.statuses(asked.store, &ids)) {
            // A table that is not there holds none.
            Err(StoreError::NoTable(_)) => {}
            found => there.extend(found?),
        }
    }
    let queued = NotificationStatus::Queued.as_str();
    let difference = |(id, gone): (String, bool)| match (there.get(&id), gone) {
        (None, false) => Some(Difference { key: id, has: None, should_have: "a notification".to_owned() }),
        (Some(status), true) if status == queued => {
            let has = Some(status.clone());
            Some(Difference { key: id, has, should_have: "no row: its event was taken back".to_owned() })
        }
        _ => None,
    };
    Ok(meant.into_iter().filter_map(difference).collect())
}
