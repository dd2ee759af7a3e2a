//! What a session costs in memory: bytes while it is kept, and allocations when it is found.
//!
//! Counted by an allocator of its own, hence a test program of its own.

#![cfg(test)]

use portcullis::clock::UnixTime;
use portcullis::session::{Factors, Sessions, Settings, Site, Sites, StoreSettings};
use portcullis::subject::Identity;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn person(number: u64) -> Identity {
    let groups = ["developers", "operations", "everybody@example"];
    let name = format!("john.{number:08}");
    Identity::new(&name, "John Middle Longname", groups, ["john.longname@mail.example.com"]).unwrap()
}

#[test]
fn a_kept_session_takes_less_than_500_bytes_and_finding_it_allocates_nothing() {
    // Just above a power of two, where tables have grown and are half empty: the worst case.
    const SESSIONS: u64 = 33_000;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let settings = Settings {
        sites: Sites::new(vec![Site::new("example.com".parse().unwrap())]).unwrap(),
        // Ids are random and shards fill unevenly: room enough that no shard ever overflows.
        store: StoreSettings::Memory { capacity: (SESSIONS + SESSIONS / 8) as usize },
        secret: None,
    };
    let sessions = runtime.block_on(Sessions::open_store(&settings)).unwrap();
    let site = sessions.sites().of("example.com").unwrap();
    // Each somebody else's: that takes most, and of one account there may not be so many.
    let open = |n| runtime.block_on(sessions.open(site, person(n), Factors::PASSWORD, false, NOW)).unwrap();
    let cookie = open(0);

    let kept = allocation_counter::measure(|| (1..SESSIONS).for_each(|n| drop(open(n))));
    let each = kept.bytes_current / SESSIONS as i64;
    println!("{each} bytes a session");
    assert_eq!(sessions.stats().active.unwrap(), SESSIONS, "they are all there");
    assert!(each < 500, "{each} bytes a session");

    let pair = cookie.as_str().split_once(';').unwrap().0;
    let header = format!("theme=dark; _ga=GA1.2.1234567890.1234567890; {pair}; lang=en");
    let mut names = 0;
    let found = allocation_counter::measure(|| {
        let found = runtime.block_on(sessions.find(site, [header.as_bytes()].into_iter(), NOW)).unwrap();
        names += found.map_or(0, |found| found.identity.username().len());
    });
    assert_eq!(names, "john.00000000".len());
    assert_eq!(found.count_total, 0, "finding a session allocates nothing");
}
