package ring_test

import (
	"errors"
	"testing"

	"github.com/goproc/goproc/core/ring"
)

// FuzzResult puts arbitrary bytes into the result ring, and an arbitrary tail beside them. The parent must not loop for
// ever, and what it takes for a result must lie in the published part of the ring.
func FuzzResult(f *testing.F) {
	frame := func(size uint32, kind ring.Kind, flags uint16) []byte {
		b := le.AppendUint32(nil, size)
		b = le.AppendUint16(b, uint16(kind))
		b = le.AppendUint16(b, flags)
		b = append(b, make([]byte, 24+min(size, 64))...)
		b[24] = 1
		return b
	}
	f.Add(uint64(0), uint64(64), frame(32, ring.KindResult, 0))
	f.Add(uint64(0), uint64(56), frame(24, ring.KindFailure, ring.FlagExtent))
	f.Add(uint64(0), uint64(64), frame(32, ring.KindPart, 0))
	f.Add(uint64(7), uint64(8*ring.RingSize/8+32), frame(ring.RingSize/8, ring.KindPad, 0))
	f.Add(uint64(3), uint64(1<<63), frame(1<<31, 3, 1))
	f.Add(uint64(7), uint64(2*ring.RingSize), frame(ring.RingSize, ring.KindPad, 0))

	memory, err := ring.NewMemory()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(memory.Close)
	slot, worker := newSlot(f, memory, 0)
	f.Fuzz(func(t *testing.T, eighths, tail uint64, content []byte) {
		slot.Clear()
		results := worker.Memory[resultsStart:]
		clear(results)
		// Begin at any eighth of the ring.
		head := eighths % 8 * ring.RingSize / 8
		for position := uint64(0); position < head; position += ring.RingSize / 8 {
			header(worker, int(position), ring.RingSize/8-ring.HeaderSize, ring.KindResult, 0)
			resultTail(worker, position+ring.RingSize/8)
			take(t, slot)
		}
		for at := range min(len(content), ring.RingSize) {
			results[(head+uint64(at))%ring.RingSize] = content[at]
		}
		resultTail(worker, tail)
		for taken := 0; ; taken++ {
			frame, payload, ok, err := slot.Result()
			if err != nil {
				if ok || !errors.Is(err, ring.ErrProtocol) {
					t.Fatal(ok, err)
				}
				return
			}
			if !ok {
				return
			}
			if taken > ring.RingSize/ring.HeaderSize {
				t.Fatal("more results than fit into the ring")
			}
			if frame.Kind != ring.KindResult && frame.Kind != ring.KindFailure && frame.Kind != ring.KindPart || len(payload) > ring.MaxInline {
				t.Fatal(frame, len(payload))
			}
			for _, b := range payload { // a fault if it lay outside
				_ = b
			}
			slot.Release()
			if head = le.Uint64(worker.Memory[ring.OffResultHead:]); head > tail {
				t.Fatal("released beyond the tail:", head, tail)
			}
		}
	})
}
