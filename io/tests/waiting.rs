//! What a request holds in memory while its answer takes long, on either side.
#![expect(unsafe_code, reason = "an allocator that counts is an allocator")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use http::{Request, Response};
use luge_io::{
    dns::Resolver,
    driver::Driver,
    http::{Body, Client, ClientConfig, Incoming, ServerConfig, bind, serve},
    oneshot,
    stop::Stop,
    task, time,
    tls::{ClientTls, Roots},
};

/// Counts what a thread has allocated and not given back: server and client of a
/// test run on one.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn held() -> isize {
    HELD.get()
}

fn note(bytes: usize, sign: isize) {
    // A thread that ends has nobody to tell any more.
    let _gone = HELD.try_with(|held| held.set(held.get() + sign * bytes.cast_signed()));
}

// SAFETY: all is the system's allocator's; the count is a thread's own, and
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 1);
        // SAFETY: the caller promises what the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Requests that wait at the same time.
const REQUESTS: usize = 64;
/// Bytes for each, on both sides together: without hyper's buffers, of which each
/// side has two of 8 KiB.
const BYTES_MAX: isize = 7 << 10;

/// Goal: a long poll keeps none of hyper's buffers, at either end.
#[test]
fn a_request_that_waits_for_its_answer_holds_little() {
    for driver in Driver::available() {
        let each = driver.block_on(each_waiting_holds()).unwrap();
        assert!(each < BYTES_MAX, "{each} bytes for each, {driver:?}");
    }
}

async fn each_waiting_holds() -> isize {
    let soon = Duration::from_millis(5);
    let (entered, releases) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
    let (count, senders) = (Rc::clone(&entered), Rc::clone(&releases));
    let handler = move |_: Request<Incoming>, _| {
        let (release, released) = oneshot::channel::<()>();
        senders.borrow_mut().push(release);
        count.set(count.get() + 1);
        async move {
            released.await.unwrap();
            Response::new(Body::from("answer"))
        }
    };
    let socket = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
    let (uri, stop) = (format!("http://{}/", socket.address()), Stop::new());
    let config = ServerConfig { park_after: soon, ..ServerConfig::default() };
    let server = task::spawn(serve(socket, Rc::new(handler), config, stop.clone()));
    let config = ClientConfig { park_after: soon, ..ClientConfig::default() };
    let tls = ClientTls::new(&Roots::Mozilla).unwrap();
    let client = Client::new(config, tls, Resolver::start().unwrap());
    let mut waiting = Vec::new();
    let mut before = 0;
    // The first ones pay for what all share.
    for number in 0..2 * REQUESTS {
        if number == REQUESTS {
            settle().await;
            before = held();
        }
        let (client, request) = (client.clone(), Request::get(&uri).body(Body::empty()).unwrap());
        waiting.push(task::spawn(async move { client.send(request).await.unwrap() }));
    }
    while entered.get() < 2 * REQUESTS {
        time::sleep(Duration::from_millis(1)).await;
    }
    settle().await;
    let each = (held() - before) / REQUESTS.cast_signed();
    for release in releases.take() {
        release.send(()).unwrap();
    }
    for response in waiting {
        assert_eq!(response.await.into_body().read_limited(100).await.unwrap(), "answer");
    }
    stop.fire(Duration::from_mins(1));
    server.await.unwrap();
    each
}

/// Until what is held has long stayed the same.
async fn settle() {
    let (mut last, mut same) = (held(), 0);
    while same < 20 {
        time::sleep(Duration::from_millis(5)).await;
        same = if held() == last { same + 1 } else { 0 };
        last = held();
    }
}
