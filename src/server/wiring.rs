//! Builds the views and reads that run from the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::{Fields, LogId};

use super::route_policy::spellings;
use crate::api::{ContractRead, Shape};
use crate::config::{
    self, Access, AmountRule, ColumnFrom, Config, CountedConfig, FromEnvelope, LedgerConfig,
    NotificationsConfig, ReadConfig, ReadShape, Retention, RowTableConfig, StatsConfig, ViewConfig,
    ViewKindConfig,
};
use crate::store::RowsOf;
use crate::views::{
    Amount, ColumnSource, CountedField, EnvelopeField, Ledger, MessagePart, NotificationFields,
    Notifications, RetentionPolicy, RowTable, Rule, Running, Stats, StatsFields, View, ViewKind,
};

pub fn views(config: &Config) -> Vec<View> {
    let view = |(name, declared): (&String, &ViewConfig)| {
        let kind = match &declared.kind {
            ViewKindConfig::Ledger(declared) => ViewKind::Ledger(ledger(declared)),
            ViewKindConfig::Stats(declared) => ViewKind::Stats(stats(declared)),
            ViewKindConfig::Notifications(declared) => ViewKind::Notifications(notifications(declared)),
            ViewKindConfig::Table(table) => {
                ViewKind::Table(row_table(table, &config.streams[&declared.stream].fields))
            }
        };
        View { name: name.clone(), stream: declared.stream.clone(), kind }
    };
    config.views.iter().map(view).collect()
}

/// Returns the retention policy for the log and for the views that run.
pub fn retention_policy(
    declared: &Retention,
    views: &BTreeMap<String, Running>,
    log: LogId,
) -> RetentionPolicy {
    let rows = declared.rows.iter().filter_map(|(view, keep)| {
        let table = views.get(view)?.view.row_table()?.table();
        Some((RowsOf { view: view.clone(), log, table: Arc::clone(table) }, *keep))
    });
    RetentionPolicy {
        log: declared.log,
        log_bytes: declared.log_bytes,
        streams: declared.streams.clone(),
        rows: rows.collect(),
    }
}

fn ledger(declared: &LedgerConfig) -> Ledger {
    let amount = |(field, negative): (usize, bool)| Amount { field, negative };
    let rule = match &declared.rule {
        AmountRule::Always(field, negative) => Rule::Always(amount((*field, *negative))),
        AmountRule::By { field, amounts } => {
            let amounts = amounts.iter().map(|(text, rule)| (text.clone(), amount(*rule)));
            Rule::By { field: *field, amounts: amounts.collect() }
        }
    };
    let columns = [declared.key_column.as_str(), declared.amount_column.as_str()];
    Ledger::new(&declared.table, columns, declared.key, rule)
}

fn stats(declared: &StatsConfig) -> Stats {
    let counted = |counted: &CountedConfig| CountedField {
        field: counted.field,
        name: counted.name.clone(),
        distinct: counted.distinct,
    };
    let reads = StatsFields {
        group: declared.group,
        group_name: declared.group_name.clone(),
        distinct: declared.distinct,
        time: declared.time,
        counts: declared.counts.iter().map(counted).collect(),
    };
    Stats::new(&declared.table, reads)
}

fn row_table(declared: &RowTableConfig, fields: &Fields) -> RowTable {
    let envelope_field = |envelope: FromEnvelope| match envelope {
        FromEnvelope::Received => EnvelopeField::Received,
        FromEnvelope::Id => EnvelopeField::Id,
        FromEnvelope::Address => EnvelopeField::Address,
    };
    let column = |(name, from): &(String, ColumnFrom)| {
        let source = match *from {
            ColumnFrom::Field { field, default } => {
                ColumnSource::Field { field, default: default.map(envelope_field) }
            }
            ColumnFrom::Envelope(envelope) => ColumnSource::Envelope(envelope_field(envelope)),
        };
        (name.clone(), source)
    };
    let columns: Vec<(String, ColumnSource)> = declared.columns.iter().map(column).collect();
    RowTable::new(&declared.table, &declared.id_column, &columns, fields)
}

fn notifications(declared: &NotificationsConfig) -> Notifications {
    let part = |part: &config::MessagePart| match part {
        config::MessagePart::Words(words) => MessagePart::Words(words.clone()),
        config::MessagePart::Field(field) => MessagePart::Field(*field),
    };
    let reads = NotificationFields {
        to: declared.to,
        event_type: declared.event_type,
        payload: declared.payload,
        message: declared.message.iter().map(part).collect(),
        channel: declared.channel.clone(),
    };
    Notifications::new(&declared.table, reads)
}

/// Returns the reads at the paths of contracts.
pub fn contract_reads(config: &Config) -> Vec<ContractRead> {
    let read = |declared: &ReadConfig| ContractRead {
        paths: spellings(&declared.path),
        view: declared.view.clone(),
        open: declared.access == Access::Open,
        error_key: declared.error_key.clone(),
        shape: match &declared.shape {
            ReadShape::Row => Shape::Row,
            ReadShape::Stats { top } => Shape::Stats { top: top.clone() },
        },
    };
    config.reads.values().map(read).collect()
}
