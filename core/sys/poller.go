package sys

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Poller waits for any of many descriptors to become readable (epoll(7)), and can be woken.
type Poller struct {
	epoll  *FD
	wake   *FD // an eventfd
	events [64]unix.EpollEvent
}

// NewPoller opens the two descriptors of a poller.
func NewPoller(what string) (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1 for %s: %w", what, err)
	}
	p := &Poller{}
	if p.epoll, err = own(fd, what+" epoll"); err != nil {
		return nil, err
	}
	if fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = p.epoll.Close()
		return nil, fmt.Errorf("eventfd for %s: %w", what, err)
	}
	if p.wake, err = own(fd, what+" wake"); err != nil {
		_ = p.epoll.Close()
		return nil, err
	}
	if err = p.Add(p.wake, 0); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// Add makes Wait report id, which is not 0, for as long as f is readable.
func (p *Poller) Add(f *FD, id int) error { return p.AddNumber(f.Int(), id) }

// AddNumber is Add for a descriptor that C owns.
func (p *Poller) AddNumber(fd, id int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(id), Pad: int32(id >> 32)}
	if err := unix.EpollCtl(p.epoll.Int(), unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl add: %w", err)
	}
	return nil
}

// Remove undoes Add. It must come before f is closed: a closed descriptor of which a forked child still holds a copy
// stays in the epoll set and could not be removed any more.
func (p *Poller) Remove(f *FD) error { return p.RemoveNumber(f.Int()) }

// RemoveNumber is Remove for a descriptor that C owns.
func (p *Poller) RemoveNumber(fd int) error {
	if err := unix.EpollCtl(p.epoll.Int(), unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("epoll_ctl del: %w", err)
	}
	return nil
}

// Int is the number of the epoll descriptor, for C to add to.
func (p *Poller) Int() int { return p.epoll.Int() }

// Wait appends to ids those whose descriptors are readable, and waits until there is at least one or until Wake.
func (p *Poller) Wait(ids []int) ([]int, error) {
	n, err := retry(func() (int, error) { return unix.EpollWait(p.epoll.Int(), p.events[:], -1) })
	if err != nil {
		return ids, fmt.Errorf("epoll_wait: %w", err)
	}
	for _, event := range p.events[:n] {
		id := int(event.Pad)<<32 | int(uint32(event.Fd))
		if id != 0 {
			ids = append(ids, id)
			continue
		}
		var count [8]byte
		_, _ = unix.Read(p.wake.Int(), count[:])
	}
	return ids, nil
}

// Wake ends the current Wait, or the next one.
func (p *Poller) Wake() {
	one := [8]byte{1}
	// EAGAIN, the only error of an open eventfd, means that a wake is already due.
	_, _ = unix.Write(p.wake.Int(), one[:])
}

// Close closes both descriptors; no Wait may be going on.
func (p *Poller) Close() error { return errors.Join(p.wake.Close(), p.epoll.Close()) }
