package engine

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/goproc/goproc/core/leakcheck"
	"github.com/goproc/goproc/core/pool"
	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(leakcheck.Main(m)) }

func TestUnusedEngineHasNothing(t *testing.T) {
	before := sys.Open()
	e := New()
	assert.Equal(t, before, sys.Open())
	require.NoError(t, e.Close())
	assert.Same(t, Get(), Get())
	require.NoError(t, Get().Close())
}

func TestStats(t *testing.T) {
	e := New()
	id, err := e.Table.Spawn(process.Spawn, process.Command{Argv: []string{"sleep", "1000"}})
	require.NoError(t, err)
	e.AddTasks(7)
	e.AddLost(2)
	e.AddTimeouts(3)
	e.AddRetries(4)
	text, err := json.Marshal(e.Stats())
	require.NoError(t, err)
	assert.JSONEq(t, `{"started":{"fork":0,"spawn":1,"forkserver":0},"tasks":7,"lost":2,"timeouts":3,"retries":4,"running":1}`, string(text))

	ended := make(chan int)
	require.NoError(t, e.Table.OnExit(id, func(status int) { ended <- status }))
	require.NoError(t, e.Table.Signal(id, 9))
	assert.Equal(t, -9, <-ended)
	assert.Zero(t, e.Stats().Running)
	e.Table.Forget(id)
	require.NoError(t, e.Close())
}

func TestCloseEndsPools(t *testing.T) {
	e := New()
	p, err := pool.New(e)
	require.NoError(t, err)
	number, err := e.Pools.Put(p)
	require.NoError(t, err)
	require.NoError(t, e.Close())
	_, err = e.Pools.Get(number)
	require.ErrorIs(t, err, pool.ErrNone)
	_, err = e.Table.Prepare()
	require.ErrorIs(t, err, process.ErrClosed)
	require.NoError(t, e.Close())
}

func ExampleEngine() {
	e := New()
	id, err := e.Table.Spawn(process.Spawn, process.Command{Argv: []string{"true"}})
	if err != nil {
		panic(err)
	}
	ended := make(chan int)
	_ = e.Table.OnExit(id, func(status int) { ended <- status })
	fmt.Println(<-ended, e.Stats().Started["spawn"])
	_ = e.Close()
	// Output: 0 1
}
