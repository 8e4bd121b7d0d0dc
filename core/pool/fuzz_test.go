package pool

import (
	"encoding/binary"
	"testing"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
)

// FuzzWorkers runs a pool through the steps that the input spells out, among them workers that write anything anywhere
// into their memory. The pool must not panic or hang, and must complete every task exactly once.
func FuzzWorkers(f *testing.F) {
	f.Add([]byte("shsrcsrcxc"))
	f.Add([]byte("hhs1s2s3r0r1cpc"))
	f.Add([]byte("hs1s2s3k0x0hr0c"))
	f.Add([]byte("hs9s9s9w\x01abcdefghcs1x0hr0c"))
	f.Add([]byte("hs1w\x08\xff\xff\xff\xff\xff\xff\xff\x7fs1s1pc"))
	f.Add([]byte("hhs1s1s1q r0r1r0ct"))
	f.Add([]byte("hs1s1y01y01cx0h"))
	f.Add([]byte("hs1y01y01ca00a10y01r0c"))
	f.Add([]byte("hs1\x0fr000hpr100cx0hr0c"))
	f.Fuzz(func(t *testing.T, script []byte) {
		p, err := New(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Destroy()
		run := &fuzzed{t: t, p: p, script: script, told: map[uint64]bool{}}
		for len(run.script) > 0 {
			run.step()
		}
		for len(run.hands) > 0 {
			run.exit(0)
		}
		p.Terminate()
		run.collect(128 << 10)
		if n := p.Pending(); n != 0 || uint64(len(run.told)) != run.submitted {
			t.Fatalf("%d tasks were submitted, %d are told of, %d pending", run.submitted, len(run.told), n)
		}
	})
}

type fuzzed struct {
	t         *testing.T
	p         *Pool
	script    []byte
	hands     []*hand
	submitted uint64
	told      map[uint64]bool
}

// next is the next byte of the script, 0 at its end.
func (r *fuzzed) next() int {
	if len(r.script) == 0 {
		return 0
	}
	b := r.script[0]
	r.script = r.script[1:]
	return int(b)
}

func (r *fuzzed) step() {
	switch op := r.next(); op {
	case 'h':
		if h, err := tryHire(r.p, r.next()%4); err == nil && len(r.hands) < 8 {
			r.hands = append(r.hands, h)
		} else if h != nil {
			h.exit(0)
			h.Close()
		}
	case 's':
		f := ring.Frame{Job: 1, Index: r.submitted}
		size := r.next() * 64
		if size == 64 {
			f.Flags, size = ring.FlagExtent, ring.ExtentSize
		}
		f.End = uint32(r.next() % 16)
		if r.p.Submit(f, make([]byte, size)) == nil {
			r.submitted += max(1, uint64(f.End))
		}
	case 'c':
		r.collect(int(ring.Space(ring.MaxInline)) + r.next()*100)
	case 'a':
		r.p.Taken(1, uint64(r.next()%16), uint32(r.next()))
	case 'p':
		r.p.pumpOnce()
	case 'q':
		r.p.Close()
	case 't':
		if r.next() == 't' { // rarely, for little comes after it
			r.p.Terminate()
		}
	case 'x':
		if len(r.hands) > 0 {
			r.exit(r.next() % len(r.hands))
		}
	default:
		if len(r.hands) > 0 {
			r.work(op, r.hands[r.next()%len(r.hands)])
		}
	}
}

// work has a worker do something.
func (r *fuzzed) work(op int, h *hand) {
	defer func() { _ = recover() }() // what it reads may be nonsense, too: it would crash
	switch op {
	case 'r':
		if task, ok := h.Claim(); ok {
			h.Advance()
			result := resultOf(task)
			result.Busy = uint32(r.next())
			_ = h.TrySend(result, make([]byte, r.next()*64))
		}
	case 'y': // a part, mostly of a task that it has begun
		task := ringtest.Task{Job: 1, Index: uint64(r.next() % 16)}
		if begun, ok := h.Claim(); ok && r.next()%4 != 0 {
			h.Advance()
			task = begun
		}
		for range r.next() {
			_ = h.TrySend(h.PartOf(task), make([]byte, r.next()))
		}
	case 'k':
		h.Claim()
	case 'w': // one of the words of its page
		words := []int{ring.OffTaskTail, ring.OffResultHead, ring.OffTaskHead, ring.OffResultTail, ring.OffSleeping}
		at := words[r.next()%len(words)]
		for i := range 8 {
			h.Memory[at+i] = byte(r.next())
		}
	case 'g': // anywhere
		at := (r.next()<<16 | r.next()<<8 | r.next()) * 8 % (len(h.Memory) - 256)
		for i := range r.next() {
			h.Memory[at+i] = byte(r.next())
		}
	case 'f': // a frame where it puts results
		at := ring.PageSize + ring.RingSize + int(binary.LittleEndian.Uint64(h.Memory[ring.OffResultTail:])%ring.RingSize)
		for i := range 24 {
			h.Memory[at+i] = byte(r.next())
		}
		h.Memory[ring.OffResultTail] += byte(r.next())
	}
}

func (r *fuzzed) exit(at int) {
	h := r.hands[at]
	r.hands = append(r.hands[:at], r.hands[at+1:]...)
	h.exit(r.next())
	h.Close()
}

func (r *fuzzed) collect(size int) {
	buffer := make([]byte, size)
	for {
		used := r.p.Collect(buffer)
		if used == 0 {
			return
		}
		for _, c := range ringtest.Decode(buffer[:used]) {
			switch {
			case c.Kind == ring.KindPart && c.Job == 1 && c.Index < r.submitted && !r.told[c.Index]:
			case c.Kind == ring.KindExited || c.Kind == ring.KindRetried:
			case c.Job != 1 || c.Index >= r.submitted || r.told[c.Index]:
				r.t.Fatal("told of twice, or never submitted:", describe(c))
			default:
				r.told[c.Index] = true
			}
		}
	}
}
