//! What the system is asked, and all `unsafe` of the generator.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

fn checked(status: libc::c_int) -> io::Result<libc::c_int> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}

/// The clock of a process's processor time.
pub(crate) struct CpuClock(libc::clockid_t);

impl CpuClock {
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<CpuClock> {
        let mut id = 0;
        // SAFETY: `id` is writable.
        match unsafe { libc::clock_getcpuclockid(pid, &mut id) } {
            0 => Ok(CpuClock(id)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    pub(crate) fn now(&self) -> io::Result<Duration> {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is writable.
        checked(unsafe { libc::clock_gettime(self.0, &mut now) })?;
        Ok(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
    }
}

/// Which of several sockets can be read.
pub(crate) struct Poll {
    epoll: libc::c_int,
    events: [libc::epoll_event; 64],
}

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        // SAFETY: takes no pointer.
        let epoll = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Poll { epoll, events: [libc::epoll_event { events: 0, u64: 0 }; 64] })
    }

    pub(crate) fn add(&self, fd: RawFd, index: usize) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
        // SAFETY: `event` is a live value.
        checked(unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
    }

    /// The indices of those that can be read now. It does not wait: a generator that sleeps has to be woken by the
    /// server, in the server's time.
    pub(crate) fn ready(&mut self) -> io::Result<impl Iterator<Item = usize> + use<>> {
        // SAFETY: the kernel writes at most so many events.
        let count = checked(unsafe {
            libc::epoll_wait(self.epoll, self.events.as_mut_ptr(), self.events.len() as libc::c_int, 0)
        })?;
        let events = self.events;
        Ok((0..count as usize).map(move |i| events[i].u64 as usize))
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        // SAFETY: opened by `new`, closed once.
        unsafe { libc::close(self.epoll) };
    }
}
