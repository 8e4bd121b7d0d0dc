package sys

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Circumstances is what a program inherits through execve(2) from the thread that executes it, except its descriptors,
// its working folder, its environment and its arguments.
type Circumstances struct {
	// Blocked and Ignored are sets of signals: bit n-1 stands for signal n.
	Blocked, Ignored uint64
	// Rest is an opaque fingerprint of the rest; only compare it.
	Rest string
	// Proof says that Rest does not show the Landlock domain, so the caller needs another proof: see [SharesDomain].
	Proof bool
}

// ErrIncomparable is wrapped by ReadCircumstances when the kernel does not show all that a program would inherit. It
// wraps ENOTSUP.
var ErrIncomparable = fmt.Errorf("not all that a program inherits can be compared: %w", unix.ENOTSUP)

// statusLines are the lines of /proc/thread-self/status that show what programs inherit.
var statusLines = []string{
	"Umask", "Uid", "Gid", "Groups", "NSpgid", "NSsid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
	"NoNewPrivs", "Seccomp", "Seccomp_filters", "Speculation_Store_Bypass", "SpeculationIndirectBranch",
	"Cpus_allowed", "Mems_allowed", "THP_enabled",
}

// namespaces are the files of /proc/thread-self/ns for the namespaces that a thread can leave.
var namespaces = []string{"cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts"}

// inheritedFiles are the files of /proc/thread-self that show what programs inherit. A file that this kernel does not
// have counts as empty for every thread.
var inheritedFiles = []string{
	"cgroup", "cpu_resctrl_groups", "oom_score_adj", "loginuid", "sessionid", "attr/current", "attr/exec",
	"../../coredump_filter", // only a process has this file
}

// inheritedOptions are the calls of prctl(2) that return what programs inherit: option and second argument.
var inheritedOptions = [][2]int{
	{27, 0},                   // PR_GET_SECUREBITS
	{30, 0},                   // PR_GET_TIMERSLACK
	{34, 0},                   // PR_MCE_KILL_GET
	{42, 0},                   // PR_GET_THP_DISABLE
	{51, 0},                   // PR_SVE_GET_VL
	{52, 0}, {52, 1}, {52, 2}, // PR_GET_SPECULATION_CTRL, for each kind
	{58, 0}, // PR_GET_IO_FLUSHER
	{64, 0}, // PR_SME_GET_VL
	{66, 0}, // PR_GET_MDWE
	{68, 0}, // PR_GET_MEMORY_MERGE
}

// ReadCircumstances says what a program would inherit if the calling thread executed it now. The calling goroutine must
// be locked to its thread, as is every goroutine that C has called.
func ReadCircumstances() (c Circumstances, err error) {
	thread, err := openThread()
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrIncomparable, err)
	}
	defer thread.close()
	content, err := thread.read("status")
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrIncomparable, err)
	}
	status := parseStatus(content)
	for name, set := range map[string]*uint64{"SigBlk": &c.Blocked, "SigIgn": &c.Ignored} {
		if *set, err = strconv.ParseUint(status[name], 16, 64); err != nil {
			return c, fmt.Errorf("%w: %s: %w", ErrIncomparable, name, err)
		}
	}
	var rest strings.Builder
	for _, name := range statusLines {
		rest.WriteString(status[name] + "\n")
	}
	links := map[string]string{}
	for _, name := range append([]string{"pid", "time"}, namespaces...) {
		links[name] = thread.link("ns/" + name)
		rest.WriteString(links[name] + "\n")
	}
	if links["pid"] != links["pid_for_children"] || links["time"] != links["time_for_children"] {
		// The first child becomes the new namespace's init.
		return c, fmt.Errorf("%w: children have another namespace", ErrIncomparable)
	}
	for _, name := range inheritedFiles {
		content, _ := thread.read(name)
		rest.WriteString(content + "\n")
	}
	for _, option := range inheritedOptions {
		value, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, uintptr(option[0]), uintptr(option[1]), 0, 0, 0, 0)
		rest.WriteString(strconv.Itoa(int(value)) + " " + strconv.Itoa(int(errno)) + "\n")
	}
	fmt.Fprintln(&rest, readRoot(), readScheduling(), readMemoryPolicy())
	persona, _, _ := unix.RawSyscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
	keyring, keyringErr := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	fmt.Fprintln(&rest, persona, keyring, keyringErr)
	for resource := range 16 { // RLIM_NLIMITS
		var limit unix.Rlimit
		_ = unix.Prlimit(0, resource, nil, &limit)
		fmt.Fprintln(&rest, limit.Cur, limit.Max)
	}
	for stream := range 3 {
		var stat unix.Stat_t
		_ = unix.Fstat(stream, &stat) // of a closed stream, all numbers are 0
		fmt.Fprintln(&rest, stat.Dev, stat.Ino, stat.Mode, stat.Rdev)
	}
	domain, proof, err := readConfinement(thread, status, links["user"])
	if err != nil {
		return c, err
	}
	fmt.Fprintln(&rest, domain)
	c.Rest, c.Proof = rest.String(), proof
	return c, nil
}

// parseStatus returns the values in a status file of /proc, by their names.
func parseStatus(content string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(content) {
		name, value, _ := strings.Cut(line, ":")
		values[name] = strings.TrimSpace(value)
	}
	return values
}

// readRoot identifies the thread's root folder. The link in /proc is of no use: it says "/" for any root folder.
func readRoot() string {
	var root unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_INO|unix.STATX_MNT_ID, &root)
	return fmt.Sprintln(err, root.Dev_major, root.Dev_minor, root.Ino, root.Mnt_id)
}

// readScheduling reads the scheduling policy, the nice value and what else sched_setattr(2) sets, the I/O priority,
// whether reading the processor's time stamp counter is allowed, and the cookie of core scheduling.
func readScheduling() string {
	policy, _, _ := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	text := fmt.Sprintln(policy, nice)
	if attributes, err := unix.SchedGetAttr(0, 0); err == nil {
		text += fmt.Sprintln(*attributes)
	}
	ioPriority, _, _ := unix.RawSyscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
	var counter int32
	_ = unix.Prctl(unix.PR_GET_TSC, uintptr(unsafe.Pointer(&counter)), 0, 0, 0)
	var cookie uint64
	_ = unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, 0, 0, uintptr(unsafe.Pointer(&cookie)))
	return text + fmt.Sprintln(ioPriority, counter, cookie)
}

// readMemoryPolicy reads what set_mempolicy(2) sets.
func readMemoryPolicy() string {
	const nodes = 4096 // more than a kernel has
	var mode int32
	var mask [nodes / 64]uint64
	_, _, errno := unix.RawSyscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&mode)), uintptr(unsafe.Pointer(&mask)), nodes, 0, 0, 0)
	highest := len(mask)
	for highest > 0 && mask[highest-1] == 0 {
		highest--
	}
	return fmt.Sprintln(mode, mask[:highest], errno)
}

// thread is a thread's folder in /proc. Its files are read by plain system calls, because package os would hand each
// file to the runtime's poller (see clock.go).
type thread int

func openThread() (thread, error) {
	fd, err := unix.Open("/proc/thread-self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return thread(fd), err
}

func (t thread) close() { _ = unix.Close(int(t)) }

func (t thread) read(name string) (string, error) {
	fd, err := unix.Openat(int(t), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	var content []byte
	for buffer := make([]byte, 4096); ; {
		n, err := unix.Read(fd, buffer)
		if err != nil && err != unix.EINTR {
			return "", err
		}
		if n == 0 {
			return string(content), nil
		}
		content = append(content, buffer[:max(n, 0)]...)
	}
}

// link reads a link; "" if there is none.
func (t thread) link(name string) string {
	var buffer [64]byte // "time_for_children:[4026531834]"
	n, err := unix.Readlinkat(int(t), name, buffer[:])
	if err != nil {
		return ""
	}
	return string(buffer[:n])
}

// id names the thread: its number, and the time when it started, because the kernel uses numbers again.
func (t thread) id() (string, error) {
	content, err := t.read("stat")
	if err != nil {
		return "", err
	}
	_, after, _ := strings.Cut(content, ") ")
	const startTime = 19 // the 22nd field of the line; the state is the third
	fields := strings.Fields(after)
	if len(fields) <= startTime {
		return "", unix.EIO
	}
	return fmt.Sprint(unix.Gettid(), " ", fields[startTime]), nil
}
