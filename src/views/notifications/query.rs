//! Queries of notifications, and their deletion.

use event::limits::NOTIFICATIONS_LOOKED_UP_MAX;
use event::{EventId, LogId, Millis};

use super::{COLUMNS, Notifications};
use crate::store::{Cell, NotificationStatus, Select, Store, StoreError, quote};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub id: String,
    pub event_id: String,
    pub event_type: String,
    /// JSON text.
    pub payload: String,
    pub status: String,
    pub attempts: i64,
    pub last_attempt: Option<String>,
    pub created: String,
    pub updated: String,
    pub recipient: String,
    pub message: String,
    pub channel: String,
    pub next_attempt: Option<String>,
}

impl Notifications {
    pub async fn notification(&self, store: &Store, id: &str) -> Result<Option<Notification>, StoreError> {
        let Select { sql, parameters } = self.select_one(id);
        Ok(self.read_all(store.rows(sql, parameters).await?)?.into_iter().next())
    }

    /// Returns the query of the database whose answer is one notification.
    pub fn select_one(&self, id: &str) -> Select {
        self.select("WHERE id = ?", vec![id.into()])
    }

    /// Returns up to `limit` notifications in the order of their ids, starting after the id `after`.
    pub async fn notifications(
        &self,
        store: &Store,
        status: Option<NotificationStatus>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError> {
        let Select { sql, parameters } = self.select_page(status, after, limit);
        self.read_all(store.rows(sql, parameters).await?)
    }

    /// Returns the query of the database whose answer is a page of notifications.
    pub fn select_page(
        &self,
        status: Option<NotificationStatus>,
        after: Option<&str>,
        limit: usize,
    ) -> Select {
        let mut parameters = vec![Cell::Text(after.unwrap_or_default().to_owned())];
        let condition = match status {
            Some(status) => {
                parameters.push(Cell::Text(status.as_str().to_owned()));
                "AND status = ?"
            }
            None => "",
        };
        self.select(&format!("WHERE id > ? {condition} ORDER BY id LIMIT {limit}"), parameters)
    }

    /// Returns those of these ids that exist, each with its status.
    pub async fn statuses(&self, store: &Store, ids: &[String]) -> Result<Vec<(String, String)>, StoreError> {
        let marks = vec!["?"; ids.len()].join(", ");
        let sql = format!("SELECT id, status FROM {} WHERE id IN ({marks})", quote(&self.table().name));
        let parameters = ids.iter().cloned().map(Cell::Text).collect();
        let pair = |row: Vec<Cell>| match <[Cell; 2]>::try_from(row) {
            Ok([Cell::Text(id), Cell::Text(status)]) => Ok((id, status)),
            _ => Err(self.corrupt_row()),
        };
        store.rows(sql, parameters).await?.into_iter().map(pair).collect()
    }

    /// Deletes the notifications of these events, which are at `positions` of the log, whatever their status is.
    pub async fn forget(
        &self,
        store: &Store,
        view: &str,
        events: &[EventId],
        (log, positions): (LogId, &[u64]),
    ) -> Result<(), StoreError> {
        let mut names: Vec<String> = events.iter().map(Self::id_of).collect();
        // Those of edited events have other ids.
        names.extend(store.notifications_at(view, log, positions).await?);
        for page in names.chunks(NOTIFICATIONS_LOOKED_UP_MAX) {
            store.forget_deliveries(view, page).await?;
            let marks = vec!["?"; page.len()].join(", ");
            let sql = format!("DELETE FROM {} WHERE id IN ({marks})", quote(&self.table().name));
            let ids = page.iter().map(|id| Cell::Text(id.clone())).collect();
            match store.change(sql, ids).await {
                // The table is missing if the view has not begun.
                Ok(_) | Err(StoreError::NoTable(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the query of the database whose answer are the last notifications in the order of their ids, without
    /// their large texts. Without ids of clients, these are the newest.
    pub fn select_newest(&self, status: Option<NotificationStatus>, limit: usize) -> Select {
        let parameters: Vec<Cell> = status.map(|status| status.as_str().into()).into_iter().collect();
        let condition = if parameters.is_empty() { "" } else { "WHERE status = ?" };
        let short = |name| match name {
            "payload" => "'null'",
            "message" => "''",
            other => other,
        };
        self.select_columns(short, &format!("{condition} ORDER BY id DESC LIMIT {limit}"), parameters)
    }

    fn select(&self, which: &str, parameters: Vec<Cell>) -> Select {
        self.select_columns(|name| name, which, parameters)
    }

    fn select_columns(
        &self,
        expression: impl Fn(&'static str) -> &'static str,
        which: &str,
        parameters: Vec<Cell>,
    ) -> Select {
        let names: Vec<&str> =
            COLUMNS.iter().map(|(name, _)| expression(name.trim_end_matches('?'))).collect();
        let sql = format!("SELECT {} FROM {} {which}", names.join(", "), quote(&self.table().name));
        Select { sql, parameters }
    }

    /// Reads notifications from the answer to such a query.
    pub fn read_all(&self, rows: Vec<Vec<Cell>>) -> Result<Vec<Notification>, StoreError> {
        rows.into_iter().map(|row| read(row).ok_or_else(|| self.corrupt_row())).collect()
    }

    fn corrupt_row(&self) -> StoreError {
        StoreError::Blocked(format!(
            "table `{}` contains a row that millrace cannot decode as a notification",
            self.table().name
        ))
    }
}

fn read(row: Vec<Cell>) -> Option<Notification> {
    let mut cells = row.into_iter();
    let mut text = || match cells.next()? {
        Cell::Text(text) => Some(Some(text)),
        Cell::Integer(number) => Some(Some(number.to_string())),
        Cell::Time(time) => Some(Some(time.to_text())),
        Cell::Null => Some(None),
        _ => None,
    };
    let time = |text: Option<String>| text.map(|text| text.parse::<Millis>().map_or(text, Millis::to_text));
    Some(Notification {
        id: text()??,
        event_id: text()??,
        event_type: text()??,
        payload: text()??,
        status: text()??,
        attempts: text()??.parse().ok()?,
        last_attempt: time(text()?),
        created: time(Some(text()??))?,
        updated: time(Some(text()??))?,
        // The replaced service does not have these.
        recipient: text()?.unwrap_or_default(),
        message: text()?.unwrap_or_default(),
        channel: text()?.unwrap_or_default(),
        next_attempt: time(text()?),
    })
}
