//! Compares notifications with the log. Each event that `where` lets pass must have its notification, whatever the status, and no
//! notification of a corrected event may still be queued. There is no repair: a missing notification may have been
//! delivered and deleted, and would be sent again.

use std::collections::HashMap;

use event::Fields;
use event::limits::NOTIFICATIONS_LOOKED_UP_MAX;

use super::definitions::Definitions;
use super::replay::LogReplay;
use super::{Context, Difference, RebuildError, Report};
use crate::store::{NotificationStatus, StoreError};
use crate::views::Notifications;
use crate::views::batch::{Batch, Event};

pub fn compare(
    context: Context<'_>,
    definitions: &Definitions,
    repair: bool,
) -> Result<Report, RebuildError> {
    if repair {
        return Err(RebuildError::WouldSendAgain(context.view.view.name.clone()));
    }
    let ranges = definitions.ranges_for(&context.view.view)?;
    let position = context.position()?.unwrap_or(0);
    let mut report = Report { position, ..Report::default() };
    LogReplay::new(context, &ranges, 0).each(position, |batch, rules| {
        let Some(notifications) = rules.view.notifications() else { return Ok(()) };
        let mut found = differences(context, notifications, &rules.fields, batch)?;
        if !found.is_empty() {
            // An event that is being corrected may look different for a moment. Compare again during a hold.
            let _hold = context.hold()?;
            found = differences(context, notifications, &rules.fields, batch)?;
            context.fail_if_history_deleted()?;
        }
        report.keys += batch.events.iter().filter(|event| event.corrects.is_none()).count() as u64;
        found.into_iter().for_each(|difference| report.note(difference));
        Ok(())
    })?;
    Ok(report)
}

fn differences(
    context: Context<'_>,
    notifications: &Notifications,
    fields: &Fields,
    batch: &Batch<'_>,
) -> Result<Vec<Difference>, RebuildError> {
    let undone = context.undone(batch)?;
    let notifies =
        |event: &&Event<'_>| event.corrects.is_none() && notifications.notifies(fields, &event.text);
    let expected = batch.events.iter().filter(notifies);
    let expected: Vec<(String, bool)> = expected
        .map(|event| (Notifications::id_of(&event.id), undone.binary_search(&event.position).is_ok()))
        .collect();
    let mut existing = HashMap::with_capacity(expected.len());
    for page in expected.chunks(NOTIFICATIONS_LOOKED_UP_MAX) {
        let ids: Vec<String> = page.iter().map(|(id, _)| id.clone()).collect();
        match context.runtime.block_on(notifications.statuses(context.store, &ids)) {
            // A missing table has no notifications.
            Err(StoreError::NoTable(_)) => {}
            found => existing.extend(found?),
        }
    }
    let queued = NotificationStatus::Queued.as_str();
    let difference = |(id, undone): (String, bool)| match (existing.get(&id), undone) {
        (None, false) => Some(Difference { key: id, has: None, should_have: "a notification".to_owned() }),
        (Some(status), true) if status == queued => {
            let has = Some(status.clone());
            Some(Difference { key: id, has, should_have: "no row: its event was corrected".to_owned() })
        }
        _ => None,
    };
    Ok(expected.into_iter().filter_map(difference).collect())
}
