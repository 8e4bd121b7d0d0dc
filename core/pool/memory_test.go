package pool

import (
	"fmt"
	"os"
	"testing"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// measured has the pump measure now. The workers of these tests have the process id of the test.
func measured(p *Pool, h *hand, base uint64) {
	p.mu.Lock()
	for _, w := range p.active {
		if w.number == h.slot {
			w.pid = os.Getpid()
		}
	}
	p.mu.Unlock()
	h.SetBase(base)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.measure()
}

func TestMemoryLimit(t *testing.T) {
	p, counters := newPool(t)
	p.believe(1)
	p.LimitMemory(1 << 20)
	h := hire(t, p, 0)
	submit(t, p, 1, 2, 3)
	task := h.recv(t)
	has, ok := sys.PrivateMemory(os.Getpid())
	require.True(t, ok)
	require.Greater(t, has, uint64(2<<20))

	measured(p, h, 0) // the worker has not said how much it has
	assert.Zero(t, h.kills.Load())
	measured(p, h, 1<<50) // it has less than before
	assert.Zero(t, h.kills.Load())
	measured(p, h, has) // it has as much as before, or little more
	p.LimitMemory(1 << 40)
	measured(p, h, 1)
	assert.Zero(t, h.kills.Load())
	h.send(t, task, nil)
	h.recv(t)
	p.LimitMemory(1 << 20)
	measured(p, h, 1)
	assert.EqualValues(t, 1, h.kills.Load())
	assert.Zero(t, h.terms.Load(), "it could take the memory of all others while it handles SIGTERM")
	b := hire(t, p, 0)
	assert.Equal(t, uint64(3), b.recv(t).Index)
	h.exit(-9)
	assert.ElementsMatch(t, []string{
		"result 1.1 ",
		fmt.Sprintf("memory 1.2 %d -9", os.Getpid()),
		fmt.Sprintf("exited 0.0 %d -9 1", os.Getpid()),
	}, collect(p))
	assert.Zero(t, counters.lost.Load())
}

// Between two tasks there is nothing to end.
func TestMemoryLimitOfNoTask(t *testing.T) {
	p, _ := newPool(t)
	p.LimitMemory(1)
	h := hire(t, p, 0)
	measured(p, h, 1)
	submit(t, p, 1)
	h.send(t, h.recv(t), nil)
	measured(p, h, 1)
	assert.Zero(t, h.kills.Load())
	assert.Equal(t, []string{"result 1.1 "}, collect(p))
}

func TestPrivateMemory(t *testing.T) {
	has, ok := sys.PrivateMemory(os.Getpid())
	assert.True(t, ok)
	assert.Positive(t, has)
	_, ok = sys.PrivateMemory(1 << 30)
	assert.False(t, ok)
	assert.Equal(t, 9, int(ring.KindMemory))
}
