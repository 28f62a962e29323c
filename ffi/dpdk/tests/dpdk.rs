//! Ports without hardware, without huge pages. One environment a process, so everything shares it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use fulcrum_director::{Buf, Pool};
use fulcrum_dpdk::{
    Eal, EalConfig, EalError, FlowRule, Hugepages, Mbuf, Mempool, Port, PortConfig, PortError, RssConfig,
    RxQueue, Spread,
};

fn environment() -> (&'static Eal, Mempool, MutexGuard<'static, ()>) {
    static EAL: OnceLock<(&'static Eal, Mempool)> = OnceLock::new();
    // Ports are opened and closed by one thread at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (eal, pool) = EAL.get_or_init(|| {
        let eal = Eal::start(&EalConfig {
            workers: vec![fulcrum_dpdk::allowed_cpus()[0]],
            file_prefix: format!("fulcrum-test-{}", std::process::id()),
            hugepages: Hugepages::Off,
            frames: 2046,
            room: 2048,
            ..EalConfig::default()
        })
        .expect("EAL starts without huge pages");
        (eal, Mempool::new(eal, "frames", 1023, 2048).expect("memory for a small pool"))
    });
    (eal, *pool, guard)
}

fn config() -> PortConfig {
    PortConfig {
        rx_queues: 1,
        tx_queues: 1,
        descriptors: 256,
        mtu: 1500,
        header_checksums: true,
        scatter: true,
        ..PortConfig::default()
    }
}

/// A folder with a capture to be read, and one that is written.
struct Captures(PathBuf);

impl Captures {
    fn new(name: &str, frames: &[Vec<u8>]) -> Captures {
        let folder = std::env::temp_dir().join(format!("fulcrum-dpdk-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut pcap: Vec<u8> =
            [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1].into_iter().flat_map(u32::to_le_bytes).collect();
        for frame in frames {
            let length = frame.len() as u32;
            pcap.extend([1, 0, length, length].into_iter().flat_map(u32::to_le_bytes));
            pcap.extend(frame);
        }
        fs::write(folder.join("in.pcap"), &pcap).unwrap();
        Captures(folder)
    }

    fn device(&self, number: usize) -> String {
        let folder = self.0.display();
        format!("net_pcap{number},rx_pcap={folder}/in.pcap,tx_pcap={folder}/out.pcap")
    }

    fn written(&self) -> Vec<u8> {
        fs::read(self.0.join("out.pcap")).unwrap()
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn receive(queue: &mut RxQueue, count: usize) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut frames = Vec::new();
    while frames.len() < count && Instant::now() < deadline {
        queue.poll(64, |frame| frames.push(frame.bytes().to_vec()));
    }
    frames
}

#[test]
fn frames_go_round_a_ring_and_their_memory_comes_back() {
    let (eal, mut pool, _guard) = environment();
    let mut port = Port::open(eal, "net_ring0").expect("the ring driver is installed");
    assert_eq!(port.info().unwrap().driver, "net_ring");
    let mut queues = port.start(&config(), pool).unwrap();
    let free = pool.available();

    let mut frames = Vec::new();
    for n in 0..10u8 {
        let mut frame = pool.alloc(60 + usize::from(n)).unwrap();
        frame.bytes_mut().fill(n);
        frames.push(frame);
    }
    assert_eq!(queues.tx[0].send(&mut frames), 10);
    assert!(frames.is_empty());
    let received = receive(&mut queues.rx[0], 10);
    for (n, frame) in received.iter().enumerate() {
        assert_eq!(*frame, vec![n as u8; 60 + n]);
    }
    assert_eq!(received.len(), 10);
    assert_eq!(pool.available(), free);

    let error = port.start(&config(), pool).expect_err("queues are out already");
    assert!(matches!(error, PortError::Started(_)), "{error}");
    let error = port.close().expect_err("queues are still out");
    assert!(matches!(error, PortError::InUse(_)), "{error}");
}

#[test]
fn what_the_device_does_not_take_stays_in_order() {
    let (eal, mut pool, _guard) = environment();
    let mut port = Port::open(eal, "net_ring7").unwrap();
    let mut queues = port.start(&config(), pool).unwrap();
    // Its ring has room for 1023, the pool has no more frames than that.
    let mut frames: Vec<_> = std::iter::from_fn(|| pool.alloc(60)).take(900).collect();
    for (n, frame) in frames.iter_mut().enumerate() {
        frame.bytes_mut()[..4].copy_from_slice(&(n as u32).to_be_bytes());
    }
    let total = frames.len();
    let mut seen = 0;
    while !frames.is_empty() {
        let before = frames.len();
        let sent = queues.tx[0].send(&mut frames);
        assert_eq!(frames.len(), before - sent);
        for frame in receive(&mut queues.rx[0], sent) {
            assert_eq!(frame[..4], (seen as u32).to_be_bytes());
            seen += 1;
        }
    }
    assert_eq!(seen, total);
    drop(queues);
    port.close().unwrap();
}

#[test]
fn frames_grow_shrink_and_end() {
    let (_, mut pool, _guard) = environment();
    let mut frame = pool.alloc(100).unwrap();
    frame.bytes_mut().copy_from_slice(&(0..100).collect::<Vec<u8>>());
    assert!(frame.grow_front(20));
    assert_eq!(frame.bytes().len(), 120);
    frame.shrink_front(30);
    assert_eq!(frame.bytes()[0], 10);
    frame.truncate(5);
    assert_eq!(frame.bytes(), [10, 11, 12, 13, 14]);
    frame.truncate(50);
    assert_eq!(frame.bytes().len(), 5);
    assert!(!frame.grow_front(1000), "there is not that much headroom");
    assert_eq!(frame.bytes().len(), 5);
    frame.shrink_front(1000);
    assert!(frame.bytes().is_empty());
    assert!(!frame.is_multi_segment());
    assert!(pool.alloc(2048).is_some());
    assert!(pool.alloc(2049).is_none());
}

#[test]
fn an_empty_pool_says_so() {
    let (_, mut pool, _guard) = environment();
    let free = pool.available();
    let held: Vec<_> = std::iter::from_fn(|| pool.alloc(60)).collect();
    assert!(held.len() <= free as usize);
    assert!(pool.alloc(60).is_none());
    drop(held);
    assert_eq!(pool.available(), free);
}

#[test]
fn a_pool_may_be_on_the_node_of_a_worker() {
    let (eal, _, _guard) = environment();
    let cpu = eal.workers()[0];
    let nodes = eal.nodes();
    let folder = format!("/sys/devices/system/cpu/cpu{cpu}/node{}", nodes[0]);
    assert!(nodes.len() == 1 && (fs::exists(folder).unwrap() || nodes[0] == 0));
    let mut pool = Mempool::on(eal, "near", 63, 2048, Some(nodes[0])).unwrap();
    assert!(pool.alloc(60).is_some());
    let error = Mempool::on(eal, "near", 63, 2048, Some(nodes[0])).unwrap_err().to_string();
    assert!(error.starts_with("no memory for 63 frames of 2048 bytes: "), "{error}");
}

#[test]
fn a_capture_is_read_and_written() {
    let (eal, pool, _guard) = environment();
    let frame: Vec<u8> = (0..77).collect();
    let captures = Captures::new("one", std::slice::from_ref(&frame));
    let mut port = Port::open(eal, &captures.device(0)).unwrap();
    let mut queues = port.start(&config(), pool).unwrap();
    let mut frames = Vec::new();
    queues.rx[0].poll(64, |frame| frames.push(frame));
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].bytes(), frame);
    assert_eq!(queues.tx[0].send(&mut frames), 1);
    assert_eq!(port.stats().unwrap().rx_packets, 1);
    assert_eq!(port.stats().unwrap().tx_bytes, 77);
    drop(queues);
    port.close().unwrap();
    assert!(captures.written().ends_with(&frame));
}

#[test]
fn a_frame_in_pieces_becomes_one_where_there_is_room_for_it() {
    let (eal, pool, _guard) = environment();
    let large = Mempool::new(eal, "large", 63, 9216).unwrap();
    let frames: Vec<Vec<u8>> = [60, 2049, 9018, 9217, 2048]
        .map(|len: usize| (0..len).map(|n| (n * 7 + n / 256) as u8).collect())
        .into();
    let captures = Captures::new("jumbo", &frames);
    let mut port = Port::open(eal, &captures.device(3)).unwrap();
    let mut queues = port.start(&config(), pool).unwrap();
    let (free, free_large) = (pool.available(), large.available());
    let mut received = Vec::new();
    queues.rx[0].poll(64, |frame| received.push(frame));
    let pieces: Vec<bool> = received.iter().map(Mbuf::is_multi_segment).collect();
    assert_eq!(pieces, [false, true, true, true, false]);
    // What has no room is given up, its memory comes back.
    let mut whole: Vec<_> = received.into_iter().filter_map(|frame| frame.whole(&large)).collect();
    assert_eq!(whole.iter().map(|frame| frame.bytes().len()).collect::<Vec<_>>(), [60, 2049, 9018, 2048]);
    assert!(whole.iter().zip([0, 1, 2, 4]).all(|(frame, n)| frame.bytes() == frames[n]));
    assert!(whole[2].grow_front(40), "an outer header fits");
    whole[2].shrink_front(40);
    assert_eq!(queues.tx[0].send(&mut whole), 4);
    assert_eq!((pool.available(), large.available()), (free, free_large));
    drop(queues);
    port.close().unwrap();
    assert!(captures.written().windows(9018).any(|window| window == frames[2]));
}

#[test]
fn a_device_tells_how_it_spreads_and_is_told() {
    let (eal, pool, _guard) = environment();
    let key = std::array::from_fn(|n| n as u8 * 3 + 1);
    let rss = RssConfig { key, by: Spread::Both };
    let mut port = Port::open(eal, "net_null5").unwrap();
    let info = port.info().unwrap();
    assert_eq!((info.rss, info.rss_by_end, info.rss_key_len, info.rss_table), (true, false, 0, 128));
    let queues = port.start(&PortConfig { rx_queues: 4, rss: Some(rss), ..config() }, pool).unwrap();
    // This one takes a key when it runs, not with its configuration.
    port.set_rss(&rss).unwrap();
    port.set_rss_table(&std::array::from_fn::<u16, 128, _>(|n| n as u16 % 3)).unwrap();
    let state = port.rss().unwrap();
    assert_eq!((state.key, state.by), (key, Spread::Both));
    assert!(state.table.iter().enumerate().all(|(n, queue)| usize::from(*queue) == n % 3));
    assert_eq!(state.table.len(), 128);
    assert!(port.set_rss_table(&[0; 64]).is_err(), "half a table");
    assert!(port.set_rss_table(&[0; 5000]).is_err());
    assert_eq!(port.rss().unwrap(), state);
    drop(queues);
    port.close().unwrap();

    let mut port = Port::open(eal, "net_ring9").unwrap();
    let queues = port.start(&config(), pool).unwrap();
    let error = port.rss().unwrap_err().to_string();
    assert!(error.contains("`net_ring9` does not tell its hash"), "{error}");
    assert!(port.set_rss(&rss).is_err());
    for address in ["192.0.2.1", "2001:db8::1"] {
        let address = address.parse().unwrap();
        let rule = FlowRule { address, protocol: 6, port: 1, port_mask: 1, queue: 0 };
        let error = port.validate_flow(&rule).unwrap_err().to_string();
        assert!(error.contains("`net_ring9` takes no such rule"), "{error}");
        assert!(port.add_flow(&rule).is_err());
    }
    drop(queues);
    port.close().unwrap();
}

#[test]
fn work_runs_on_its_pinned_thread_and_is_waited_for() {
    let (eal, _, _guard) = environment();
    let cpus = Arc::new(Mutex::new(Vec::new()));
    let runs = Arc::new(AtomicU32::new(0));
    for _ in 0..2 {
        let (cpus, runs) = (cpus.clone(), runs.clone());
        let lcore = eal
            .launch(0, move || {
                let status = fs::read_to_string("/proc/thread-self/status").unwrap();
                let allowed =
                    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
                *cpus.lock().unwrap() = fulcrum_dpdk::parse_cpu_list(allowed).unwrap();
                runs.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
        drop(lcore);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(*cpus.lock().unwrap(), eal.workers());
    assert!(eal.launch(1, || {}).is_err(), "there is one worker only");
}

#[test]
fn what_is_not_there_is_named() {
    let (eal, _, _guard) = environment();
    let error = Port::open(eal, "net_nonsense0").unwrap_err().to_string();
    assert!(error.contains("no DPDK driver took `net_nonsense0`"), "{error}");
    let error = Port::open(eal, "net_af_packet0,iface=nonsense0").unwrap_err().to_string();
    assert!(error.contains("nonsense0"), "{error}");
    let again = Eal::start(&EalConfig {
        workers: vec![fulcrum_dpdk::allowed_cpus()[0]],
        file_prefix: "again".into(),
        ..EalConfig::default()
    });
    assert!(matches!(again, Err(EalError::AlreadyStarted)));
}

#[test]
fn the_null_device_gives_frames_without_end() {
    let (eal, pool, _guard) = environment();
    let mut port = Port::open(eal, "net_null0,size=64").unwrap();
    let mut queues = port.start(&config(), pool).unwrap();
    let mut lengths = Vec::new();
    assert_eq!(queues.rx[0].poll(32, |frame| lengths.push(frame.bytes().len())), 32);
    assert_eq!(lengths, [64; 32]);
    assert!(port.link().up);
    drop(queues);
    port.close().unwrap();
}
