package capi

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
	"unsafe"

	"github.com/goproc/goproc/core/engine"
	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/leakcheck"
	"github.com/goproc/goproc/core/pool"
	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestMain makes sure that no pool is left. Executed with GOPROC_TEST_PANIC set, it panics in a call instead.
func TestMain(m *testing.M) {
	if os.Getenv("GOPROC_TEST_PANIC") != "" {
		panicInCall()
		os.Exit(0)
	}
	os.Exit(leakcheck.Main(m))
}

// call calls an export; its parameters have C's types, which tests cannot name.
func call(export any, arguments ...any) int64 {
	f := reflect.ValueOf(export)
	var in []reflect.Value
	for i, argument := range arguments {
		parameter := f.Type().In(i)
		if pointer, ok := argument.(unsafe.Pointer); ok && parameter.Kind() == reflect.Pointer {
			in = append(in, reflect.NewAt(parameter.Elem(), pointer))
		} else {
			in = append(in, reflect.ValueOf(argument).Convert(parameter))
		}
	}
	return f.Call(in)[0].Int()
}

func submit(number int64, job, index int, flags uint16, payload []byte) int64 {
	return call(goproc_pool_submit, number, job, index, 1, flags, unsafe.Pointer(unsafe.SliceData(payload)), len(payload))
}

func collect(number int64, buffer []byte) int64 {
	return call(goproc_pool_collect, number, unsafe.Pointer(unsafe.SliceData(buffer)), len(buffer))
}

// newPool makes a pool that is destroyed with the test.
func newPool(t *testing.T) (int64, *pool.Pool) {
	t.Helper()
	p, err := pool.New(nil)
	require.NoError(t, err)
	number, err := engine.Get().Pools.Put(p)
	require.NoError(t, err)
	t.Cleanup(func() { engine.Get().Pools.Destroy(number) })
	return number, p
}

// memoryOf is the descriptor of the pool's memory.
func memoryOf(p *pool.Pool) int {
	fd, err := p.MemoryFD()
	if err != nil {
		panic(err)
	}
	return fd
}

// work makes a worker of the pool.
func work(p *pool.Pool) *ringtest.Worker {
	slot, err := p.Slot()
	if err != nil {
		panic(err)
	}
	worker, err := ringtest.Open(memoryOf(p), slot)
	if err != nil {
		panic(err)
	}
	if err := p.Add(slot, 1, 0, func(unix.Signal) {}); err != nil {
		panic(err)
	}
	return worker
}

func TestTaskThroughTheExports(t *testing.T) {
	number, p := newPool(t)
	worker := work(p)
	defer worker.Close()
	buffer := make([]byte, 128<<10)
	assert.Zero(t, collect(number, buffer))
	assert.Zero(t, submit(number, 5, 6, 0, nil), "an empty payload")
	assert.Zero(t, submit(number, 1<<40, 7, ring.FlagExtent, make([]byte, ring.ExtentSize)))
	for range 2 {
		task, err := worker.Recv()
		require.NoError(t, err)
		require.NoError(t, worker.TrySend(ring.Frame{Kind: ring.KindResult, Job: task.Job, Index: task.Index, Busy: 1}, task.Payload))
		used := collect(number, buffer)
		assert.EqualValues(t, ring.Space(len(task.Payload)), used)
		got := ringtest.Decode(buffer[:used])
		require.Len(t, got, 1)
		assert.Equal(t, task.Job, got[0].Job)
		assert.Equal(t, task.Index, got[0].Index)
		assert.Len(t, got[0].Payload, len(task.Payload))
	}
}

func TestResultsOfRefusals(t *testing.T) {
	number, p := newPool(t)
	buffer := make([]byte, 64<<10)
	assert.EqualValues(t, -int64(unix.EMSGSIZE), submit(number, 1, 1, 0, make([]byte, ring.MaxInline+1)))
	p.Close()
	assert.EqualValues(t, -int64(unix.EPIPE), submit(number, 1, 1, 0, nil))
	assert.Zero(t, collect(number, buffer), "what has completed can still be taken")
	engine.Get().Pools.Destroy(number)
	for _, gone := range []int64{number, 0, -1, 1 << 60} {
		assert.EqualValues(t, -int64(unix.EPIPE), submit(gone, 1, 1, 0, nil))
		assert.EqualValues(t, -int64(unix.EPIPE), collect(gone, buffer))
		assert.EqualValues(t, -int64(unix.EPIPE), call(goproc_pool_unseen, gone))
	}
	assert.Zero(t, call(goproc_poison, unsafe.Pointer(&buffer[0]), 100), "the engine is sound")
}

func TestCode(t *testing.T) {
	for want, err := range map[int]error{
		0:                   nil,
		ePoisoned:           fmt.Errorf("a call: %w", guard.ErrPoisoned),
		-int(unix.EMSGSIZE): pool.ErrTooLarge,
		-int(unix.ENOMEM):   pool.ErrNoMemory,
		-int(unix.EPIPE):    fmt.Errorf("a pool: %w", pool.ErrClosed),
		-int(unix.EINVAL):   os.ErrInvalid,
	} {
		assert.Equal(t, want, code(err))
	}
}

func TestRegisterIsTheEngines(t *testing.T) {
	f := reflect.ValueOf(goproc_fd_register)
	count := reflect.New(f.Type().In(0).Elem())
	slots := f.Call([]reflect.Value{count})[0]
	assert.EqualValues(t, sys.RegisterSize, count.Elem().Int())
	assert.Equal(t, unsafe.Pointer(unsafe.SliceData(sys.Register())), slots.UnsafePointer())
}

func TestVersion(t *testing.T) {
	assert.EqualValues(t, abiVersion, call(goproc_abi_version))
}

// panicking panics when a task is counted, while it is collected, but not in the pump, which may be faster.
type panicking struct{}

func (panicking) AddTasks(int64) {
	if !bytes.Contains(debug.Stack(), []byte("pumpOnce")) {
		panic("the reason")
	}
}
func (panicking) AddLost(int64)     {}
func (panicking) AddTimeouts(int64) {}
func (panicking) AddRetries(int64)  {}

// panicInCall is the process of TestPanicPoisons. It prints what the calls return, one a line.
func panicInCall() {
	p, err := pool.New(panicking{})
	if err != nil {
		panic(err)
	}
	number, err := engine.Get().Pools.Put(p)
	if err != nil {
		panic(err)
	}
	worker := work(p)
	defer worker.Close()
	submitted, collected := submit(number, 1, 1, 0, nil), 0
	for sent := false; collected >= 0; sent = collected == 0 { // again, if the pump has collected the result
		if sent {
			collected = int(collect(number, make([]byte, 64<<10)))
			continue
		}
		if err := worker.TrySend(ring.Frame{Kind: ring.KindResult, Job: 1, Index: 1}, nil); err != nil {
			panic(err)
		}
		if collected = int(collect(number, make([]byte, 64<<10))); collected > 0 {
			submitted = submit(number, 1, 1, 0, nil)
		}
	}
	fmt.Println(submitted)
	fmt.Println(collected)
	fmt.Println(submit(number, 1, 2, 0, nil))
	fmt.Println(collect(number, make([]byte, 64<<10)))
	for _, capacity := range []int{0, 1, 10, 1000} {
		text := bytes.Repeat([]byte("#"), 1000)
		length := call(goproc_poison, unsafe.Pointer(&text[0]), capacity)
		fmt.Println(length, strings.ReplaceAll(strings.TrimRight(string(text), "#"), "\x00", "0"))
	}
	engine.Get().Pools.Close()
}

// A panic in a call does not come out of it. The engine is poisoned: this and all later calls say so, and by what.
func TestPanicPoisons(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), self)
	command.Env = append(os.Environ(), "GOPROC_TEST_PANIC=1")
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	require.NoError(t, err, "%s", &stderr)
	assert.Equal(t, 1, strings.Count(stderr.String(), "goproc: panic in goproc_pool_collect: the reason"), stderr.String())
	assert.Contains(t, stderr.String(), "capi/exports.go", "the stack is printed")

	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	require.Len(t, lines, 8)
	poisoned := fmt.Sprint(ePoisoned)
	assert.Equal(t, []string{"0", poisoned, poisoned, poisoned}, lines[:4])
	whole := guard.ErrPoisoned.Error() + ": panic in goproc_pool_collect: the reason"
	assert.Equal(t, []string{
		"0 ",
		"0 0",
		"9 " + whole[:9] + "0",
		fmt.Sprintf("%d %s0", len(whole), whole),
	}, lines[4:], "as much as there is room for, always ended by 0")
}
