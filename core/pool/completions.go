package pool

import (
	"encoding/binary"

	"github.com/goproc/goproc/core/ring"
)

// Completions: they are kept here until a Python thread collects them through package capi. A completion is either a
// result that harvest (schedule.go) has read from a worker's ring, or something that the engine itself says of a task
// (complete). While a thread collects, results go directly into its buffer. All methods but the exported ones are
// called with the pool locked.

// Collect fills buf with completions, one frame (header and payload, padded to eight bytes) after the other, and
// returns how many bytes it used: 0 when nothing has completed. buf must have room for at least one frame of
// ring.MaxInline. It may also be empty: then Collect collects nothing, and only moves tasks on.
func (p *Pool) Collect(buf []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := 0
	for p.readyAt < len(p.ready) {
		size := encodedSize(p.ready[p.readyAt:])
		if used+size > len(buf) {
			p.step()
			return used
		}
		copy(buf[used:], p.ready[p.readyAt:p.readyAt+size])
		p.readyAt += size
		used += size
	}
	p.exits = false
	if len(p.ready) > 0 {
		p.readyAt = 0
		if p.ready = p.ready[:0]; cap(p.ready) > 1<<20 {
			p.ready = nil // a burst's memory is not kept
		}
	}
	p.harvest(func(f ring.Frame, payload []byte) bool {
		if used+int(ring.Space(len(payload))) > len(buf) {
			return false
		}
		used += encode(buf[used:used:len(buf)], f, payload)
		return true
	})
	p.step()
	return used
}

// Taken says that the program has taken a part of task (job, index), and all that came before it. number is the number
// of the part (Frame.Busy). If the task is complete, Taken does nothing, because its worker no longer waits for the
// program.
func (p *Pool) Taken(job, index uint64, number uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.active {
		if len(w.flights) > 0 && w.flights[0].first() == (taskID{job, index}) {
			if taken := w.taken + uint64(number+1-uint32(w.taken)); taken <= w.parts {
				w.showTaken(taken)
			} // else Taken was called for a later part already
			return
		}
	}
}

// Unseen is how many bytes of completions [Pool.Collect] would deliver now, if it had room for all. The number may be
// somewhat too large, because rings have pads.
func (p *Pool) Unseen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	unseen := len(p.ready) - p.readyAt
	for _, w := range p.active {
		unseen += w.slot.Unread()
	}
	return unseen
}

// Urgent reports whether the completions say that a worker has ended. They should be collected soon, because the worker
// is replaced only then.
func (p *Pool) Urgent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exits
}

// finish notes that the result of the flight's first task has come.
func (p *Pool) finish(fl *flight) {
	if len(p.limits) > 0 {
		delete(p.limits, fl.first())
	}
	if fl.frame.Flags&ring.FlagKeep != 0 { // no other try will need the extent, which the worker has not freed
		p.complete(ring.KindCancelled, ring.Frame{Job: ring.NoJob, End: 1}, fl.extent, "")
	}
}

// complete makes a completion of the kind for each task of the frame. It is the engine's own, not a worker's.
func (p *Pool) complete(kind ring.Kind, f ring.Frame, extent []byte, text string) {
	flags := uint16(0)
	if extent != nil {
		flags = ring.FlagExtent // the payload begins with the description: who collects it frees the extent
	}
	payload := append(append([]byte(nil), extent...), text...)
	for i := f.First; i < f.End; i++ {
		delete(p.limits, taskID{f.Job, f.Index + uint64(i)})
		p.keep(ring.Frame{Kind: kind, Flags: flags, Job: f.Job, Index: f.Index + uint64(i)}, payload)
	}
}

// keep stores a completion until somebody collects it.
func (p *Pool) keep(f ring.Frame, payload []byte) bool {
	p.exits = p.exits || f.Kind == ring.KindExited
	at, size := len(p.ready), int(ring.Space(len(payload)))
	if cap(p.ready)-at < size {
		left := p.ready[p.readyAt:] // without the completions that have been collected
		p.ready = append(make([]byte, 0, 2*(len(left)+size)), left...)
		p.readyAt, at = 0, len(left)
	}
	encode(p.ready[at:at:cap(p.ready)], f, payload)
	p.ready = p.ready[:at+size]
	return true
}

// keepIfRoom is keep if there is memory for the completion. If not, it returns false, and the result stays in its ring
// until somebody collects it.
func (p *Pool) keepIfRoom(f ring.Frame, payload []byte) bool {
	at, size := len(p.ready), int(ring.Space(len(payload)))
	if cap(p.ready)-at < size && !room.Allows(2*(at-p.readyAt+size)) {
		return false
	}
	return p.keep(f, payload)
}

// encode writes a frame as it would stand in a ring behind the end of b, which has room for it.
func encode(b []byte, f ring.Frame, payload []byte) int {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(payload)))
	b = le.AppendUint16(b, uint16(f.Kind))
	b = le.AppendUint16(b, f.Flags)
	b = le.AppendUint64(b, f.Job)
	b = le.AppendUint64(b, f.Index)
	b = le.AppendUint32(b, uint32(f.Tasks()))
	b = le.AppendUint32(b, f.Busy)
	_ = append(b, payload...)
	return int(ring.Space(len(payload)))
}

// encodedSize is the size of the encoded frame that b begins with.
func encodedSize(b []byte) int { return int(ring.Space(int(binary.LittleEndian.Uint32(b)))) }
