package pool

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/goproc/goproc/core/ring"
	"github.com/stretchr/testify/require"
)

// The queue does what a slice would do.
func TestQueueIsADeque(t *testing.T) {
	var q queue
	var model []uint64
	random := rand.New(rand.NewPCG(7, 8))
	check := func(got task) {
		if got.frame.Index != model[0] || !slices.Equal(got.payload, []byte{byte(model[0])}) {
			t.Fatalf("%v is at the front, not %d", got, model[0])
		}
	}
	for next := range uint64(100_000) {
		// Long runs of one kind, so that it grows beyond what is kept, and runs empty.
		weight := 2 + 7*int(next/7000%2)
		item := task{frame: ring.Frame{Index: next}, payload: []byte{byte(next)}}
		switch choice := random.IntN(11); {
		case choice < weight:
			q.pushBack(item)
			model = append(model, next)
		case choice == weight:
			q.pushFront(item)
			model = append([]uint64{next}, model...)
		case len(model) > 0:
			check(*q.front())
			check(q.popFront())
			model = model[1:]
		}
		if q.len() != len(model) || q.empty() != (len(model) == 0) {
			t.Fatalf("%d are in it, not %d", q.len(), len(model))
		}
	}
	for ; !q.empty(); model = model[1:] {
		check(q.popFront())
	}
	require.Empty(t, model)
	require.LessOrEqual(t, len(q.items), 1024, "the memory of a burst is not kept")
}

func TestQueueForgetsWhatHasLeftIt(t *testing.T) {
	var q queue
	for range 10 {
		q.pushBack(task{payload: []byte("large")})
	}
	for range 10 {
		q.popFront()
	}
	for _, item := range q.items {
		require.Nil(t, item.payload)
	}
}
