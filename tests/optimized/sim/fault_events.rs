//! Faults of the simulated installation, and its recovery.

use super::world::{Event, FaultKind, HOUR, LEASE, MINUTE, MS, Power, SECOND, World, set_faults};
use polos::engine::Message;

impl World {
    pub fn inject_fault(&mut self) {
        let machine =
            usize::try_from(self.rng.range(0, i64::try_from(self.machines.len()).unwrap() - 1)).unwrap();
        let has = |fault_kind| self.fault_kind == fault_kind || self.fault_kind == FaultKind::Everything;
        let (store, clocks) = (has(FaultKind::Store), has(FaultKind::Clocks));
        match self.rng.range(0, 12) {
            0..=2 => {
                self.crash(machine);
                let delay = self.rng.range(SECOND, MINUTE);
                self.after(delay, Event::Start { machine });
            }
            3 => {
                // An orderly exit: what it holds is free at once.
                self.receive(machine, Message::Drain);
                self.receive(machine, Message::Deregister);
                let delay = self.rng.range(SECOND, MINUTE);
                self.after(delay, Event::Start { machine });
            }
            4..=5 if clocks => {
                let duration = self.rng.range(SECOND, 4 * LEASE);
                self.pause(machine, duration);
            }
            6 if clocks && self.chaos_ends < self.truth + self.pace.chaos => {
                let duration = *self.rng.pick(&[30 * SECOND, 10 * MINUTE, 2 * HOUR, 9 * HOUR]);
                for machine in 0..self.machines.len() {
                    let apart = self.rng.range(0, SECOND);
                    self.pause(machine, duration + apart);
                }
                // The whole installation was suspended; the simulation continues afterwards.
                self.chaos_ends += duration;
            }
            7..=8 if clocks => {
                let jump = *self.rng.pick(&[-SECOND, SECOND, -MINUTE, MINUTE, -HOUR, HOUR, -24 * HOUR]);
                self.note(format_args!("the clock of machine {machine} jumps by {jump} us"));
                self.machines[machine].clock.wall_ahead_us += jump;
                let is_up = self.machines[machine].power == Power::Up;
                self.mark_unhealthy(machine, is_up);
                if is_up {
                    // The driver never waits longer than this.
                    let delay = self.rng.range(0, 200 * MS);
                    self.wake(machine, delay);
                }
            }
            9..=10 if store => {
                let duration = self.rng.range(SECOND, 3 * LEASE);
                self.cut_off(machine, duration);
            }
            11 if store => {
                self.note(format_args!("no machine has a store"));
                let duration = self.rng.range(SECOND, 3 * LEASE);
                for machine in 0..self.machines.len() {
                    self.cut_off(machine, duration);
                }
            }
            12 => self.deploy(),
            _ => {}
        }
    }

    fn cut_off(&mut self, machine: usize, duration: i64) {
        self.note(format_args!("machine {machine} has no store for {duration} us"));
        self.machines[machine].store.trouble.lock().is_down = true;
        self.after(duration, Event::Reconnect { machine });
    }

    /// Deploys a new version, one machine after the other; old and new versions run concurrently.
    fn deploy(&mut self) {
        self.version += 1;
        self.note(format_args!("version {} is deployed", self.version));
        let mut delay = 0;
        for machine in 0..self.machines.len() {
            self.after(delay, Event::Drain { machine, version: self.version });
            delay += self.rng.range(SECOND, self.pace.roll);
        }
    }

    /// Ends all faults: every worker is up and has the newest version, and every workflow is
    /// served.
    pub fn end_all_faults(&mut self) {
        self.note(format_args!("calm"));
        self.is_calm = true;
        set_faults(&self.api, 0, 0);
        self.reset_limits();
        self.set_all_calendars();
        for machine in 0..self.machines.len() {
            self.resume(machine);
            let version = self.version;
            let is_whole = machine < self.whole_count();
            let it = &mut self.machines[machine];
            it.target_version = version;
            it.store.trouble.lock().is_down = false;
            set_faults(&it.store, 0, 0);
            let wrong = it.clock.now(self.truth).wall.as_micros() - self.truth;
            it.clock.wall_ahead_us -= wrong;
            if it.power == Power::Up && (it.version != version || it.is_draining || is_whole) {
                self.receive(machine, Message::Deregister);
            } else {
                self.start(machine);
            }
            self.mark_unhealthy(machine, true);
            self.wake(machine, 0);
        }
    }
}
