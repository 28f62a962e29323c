//! Which worker polls which receive queue, and by which queue each worker sends.

/// The worker that polls receive queue `queue` of the `port`th port, which has `queues` of them.
///
/// A port with a queue for every worker gives each its own; a port with fewer starts at another worker than the
/// port before, so that single queues are spread.
pub(crate) fn receiver(port: usize, queue: usize, queues: usize, workers: usize) -> usize {
    if queues >= workers { queue % workers } else { (queue + port) % workers }
}

/// The transmit queue by which `worker` sends on the `port`th port, and the worker that owns that queue.
pub(crate) fn sender(port: usize, worker: usize, queues: usize, workers: usize) -> (usize, usize) {
    if queues >= workers {
        return (worker, worker);
    }
    let owner = |queue| (queue + port) % workers;
    let queue = (0..queues).find(|queue| owner(*queue) == worker).unwrap_or(worker % queues.max(1));
    (queue, owner(queue))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_queue_is_polled_by_one_worker_and_single_queues_are_spread() {
        assert_eq!((0..3).map(|queue| receiver(1, queue, 3, 3)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((0..4).map(|port| receiver(port, 0, 1, 2)).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert!((0..8).all(|queue| receiver(5, queue, 8, 3) < 3));
    }

    #[test]
    fn a_transmit_queue_has_one_owner_who_uses_it_himself() {
        for (port, queues, workers) in
            (0..4).flat_map(|p| (1..5).flat_map(move |q| (1..6).map(move |w| (p, q, w))))
        {
            let mut owners = HashSet::new();
            for worker in 0..workers {
                let (queue, owner) = sender(port, worker, queues, workers);
                assert!(queue < queues && owner < workers);
                // Whoever is asked to send for others sends by that very queue.
                assert_eq!(sender(port, owner, queues, workers), (queue, owner));
                owners.insert((queue, owner));
            }
            assert_eq!(owners.len(), queues.min(workers));
        }
    }
}
