package pool

import (
	"fmt"
	"testing"

	"github.com/goproc/goproc/core/ring"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Withdraw leaves what has begun, and completes the rest as cancelled.
func TestWithdraw(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1, 2)
	require.NoError(t, p.Submit(ring.Frame{Job: 3}, nil))
	assert.False(t, p.Begun(1))
	task := h.recv(t)
	assert.True(t, p.Begun(1))
	assert.Equal(t, 1, p.Withdraw(1))
	assert.Equal(t, []string{"cancelled 1.2 "}, collect(p))
	assert.Equal(t, 1, p.WithdrawAll())
	assert.Equal(t, []string{"cancelled 3.0 "}, collect(p))
	h.send(t, task, []byte("done"))
	assert.Equal(t, []string{"result 1.1 done"}, collect(p))
	assert.False(t, p.Begun(1))
}

// A worker that has not begun a task keeps its first one.
func TestWithdrawLeavesFirstTasks(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1, 2, 3)
	assert.Equal(t, 2, p.WithdrawAll())
	assert.ElementsMatch(t, []string{"cancelled 1.3 ", "cancelled 1.2 "}, collect(p))
	assert.EqualValues(t, 1, h.recv(t).Index)
}

// Retry is for one task, and overrides SetRetries.
func TestRetryOfOneTask(t *testing.T) {
	p, counters := newPool(t)
	p.Retry(1, 1, 1)
	submit(t, p, 1, 2)
	for _, what := range []string{"retried", "lost"} {
		h := hire(t, p, 0)
		assert.EqualValues(t, 1, h.recv(t).Index)
		h.exit(-9)
		assert.Equal(t, fmt.Sprintf("%s 1.1 %d -9", what, h.pid), collect(p)[0])
	}
	h := hire(t, p, 0)
	assert.EqualValues(t, 2, h.recv(t).Index)
	h.exit(-9)
	assert.Equal(t, fmt.Sprintf("lost 1.2 %d -9", h.pid), collect(p)[0])
	assert.EqualValues(t, 1, counters.retries.Load())
	assert.Empty(t, p.more)
}
