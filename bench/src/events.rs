//! The events that all measurements send: sales of 10,000 users, about 60 bytes each, and visits to sites. They are
//! the same in every run, so that the right balances are known.

use std::collections::HashMap;

use crate::Outcome;

pub const USERS: usize = 10_000;

/// Spreads consecutive numbers over the users.
fn user(number: u64) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % USERS
}

/// Returns the amount of a sale, in hundredths.
fn value(number: u64) -> i64 {
    (number.wrapping_mul(7_919) % 10_000) as i64
}

fn subtracts(number: u64) -> bool {
    number % 4 == 3
}

pub fn user_id(user: usize) -> String {
    format!("user-{user:05}")
}

pub fn sale(number: u64) -> String {
    sale_of(number, user(number))
}

fn sale_of(number: u64, user: usize) -> String {
    let name = if subtracts(number) { "subtract_revenue" } else { "add_revenue" };
    let value = value(number);
    format!(r#"{{"userId":"{}","name":"{name}","value":{}.{:02}}}"#, user_id(user), value / 100, value % 100)
}

/// Returns the user of a sale. With `distinct_users`, each number below `count` has another user, in no order. The
/// multiplier is a prime that divides no `count` in use.
fn user_of(number: u64, count: u64, distinct_users: bool) -> usize {
    if distinct_users { (number * 2_654_435_761 % count) as usize } else { user(number) }
}

/// Returns the sales `0..count`, one per line.
pub fn lines(count: u64, distinct_users: bool) -> String {
    let mut lines = String::with_capacity(count as usize * 64);
    for number in 0..count {
        lines.push_str(&sale_of(number, user_of(number, count, distinct_users)));
        lines.push('\n');
    }
    lines
}

/// Returns the balance of each user after the sales `0..count`, in hundredths.
pub fn balances(count: u64, distinct_users: bool) -> Vec<i64> {
    let mut balances = vec![0; if distinct_users { count as usize } else { USERS }];
    for number in 0..count {
        let value = value(number);
        balances[user_of(number, count, distinct_users)] += if subtracts(number) { -value } else { value };
    }
    balances
}

/// Fails unless every user has the right balance, in hundredths.
pub fn expect_balances(found: &HashMap<String, i64>, right: &[i64]) -> Outcome<()> {
    for (user, right) in right.iter().enumerate() {
        let id = user_id(user);
        let found = found.get(&id);
        if found.copied().unwrap_or_default() != *right {
            return Err(format!("the balance of {id} is wrong: {found:?}, not {right}").into());
        }
    }
    Ok(())
}

/// Returns user and signed amount of each sale, as lines of CSV.
pub fn amounts(count: u64, distinct_users: bool) -> String {
    let mut lines = String::with_capacity(count as usize * 18);
    for number in 0..count {
        let user = user_of(number, count, distinct_users);
        let (sign, value) = (if subtracts(number) { "-" } else { "" }, value(number));
        lines.push_str(&format!("{},{sign}{}.{:02}\n", user_id(user), value / 100, value % 100));
    }
    lines
}

/// The number of different sites, paths and users of visits. Each user visits one site. `events` visits fill four
/// weeks in the order of time, and all further visits are on the last day.
#[derive(Clone, Copy)]
pub struct Spread {
    pub sites: u64,
    pub paths: u64,
    pub users: u64,
    pub events: u64,
}

const DAYS: u64 = 28;

/// Returns the parts of one visit: site, path, user, and day of November 2025.
pub fn visit_parts(number: u64, spread: Spread) -> [u64; 4] {
    let mixed = |salt: u64| (number ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    let user = mixed(1 << 61) % spread.users;
    let day = 1 + (number * DAYS / spread.events).min(DAYS - 1);
    [user % spread.sites, mixed(1 << 60) % spread.paths, user, day]
}

pub fn visit(number: u64, spread: Spread) -> String {
    let [site, path, user, day] = visit_parts(number, spread);
    format!(
        r#"{{"site_id":"site-{site}","event_type":"page_view","path":"/page/{path}","user_id":"user-{user}","timestamp":"2025-11-{day:02}T10:00:00Z"}}"#
    )
}

/// Returns the visits of a range, one per line.
pub fn visits(range: std::ops::Range<u64>, spread: Spread) -> String {
    let mut lines = String::with_capacity((range.end - range.start) as usize * 130);
    for number in range {
        lines.push_str(&visit(number, spread));
        lines.push('\n');
    }
    lines
}
