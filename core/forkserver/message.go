package forkserver

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The messages, one a packet, in little-endian 32-bit words. To the server: {request, id, pid}, where START carries
// descriptors by SCM_RIGHTS. From the server: {kind, id, pid, value}, where STARTED carries the child's pidfd, and
// STANDBY that and a socket.
const (
	requestStart = 1
	requestPing  = 2
	requestStop  = 3
	requestTaken = 4 // the process id is what stood by as pid: it has been sent its descriptors

	requestSize = 12
	messageSize = 16
)

// Kind is what a message from the server says.
type Kind uint32

// The kinds of message.
const (
	Started Kind = 1 // the process ID runs as PID; its pidfd comes along
	Pong    Kind = 2 // answers the ping ID
	Exited  Kind = 3 // the process ID has ended with Status
	Failed  Kind = 4 // the process ID was not started, because of Errno
	Standby Kind = 5 // PID stands by for descriptors; its pidfd comes along, and a socket to it
	Gone    Kind = 6 // PID has ended, which stood by
)

// Message is what the fork server says.
type Message struct {
	Kind   Kind
	ID     int
	PID    int // of Started, Exited, Standby and Gone
	Status int // of Exited: an exit code, or the negative number of a signal
	Errno  int // of Failed
}

// errProtocol is wrapped by everything that is wrong with a message.
var errProtocol = errors.New("protocol error")

// maxSignal is the highest signal number (SIGRTMAX), maxErrno the highest that the kernel returns.
const (
	maxSignal = 64
	maxErrno  = 4095
)

// Decode reads one packet from the server, and refuses whatever the server never sends.
func Decode(packet []byte) (Message, error) {
	if len(packet) != messageSize {
		return Message{}, fmt.Errorf("%w: a message of %d bytes", errProtocol, len(packet))
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(packet[4*i:]) }
	m := Message{Kind: Kind(word(0)), ID: int(word(1))}
	pid, value := int(int32(word(2))), int(int32(word(3)))
	switch m.Kind {
	case Started, Standby, Gone:
		if pid <= 0 {
			return Message{}, fmt.Errorf("%w: a process with number %d", errProtocol, pid)
		}
		m.PID = pid
	case Pong:
	case Exited:
		if value < -maxSignal || value > 255 {
			return Message{}, fmt.Errorf("%w: a process ended with status %d", errProtocol, value)
		}
		m.PID, m.Status = pid, value
	case Failed:
		if value <= 0 || value > maxErrno {
			return Message{}, fmt.Errorf("%w: a start failed with error %d", errProtocol, value)
		}
		m.Errno = value
	default:
		return Message{}, fmt.Errorf("%w: a message of kind %d", errProtocol, m.Kind)
	}
	return m, nil
}

// encodeRequest makes a packet for the server.
func encodeRequest(request uint32, id, pid int) []byte {
	packet := make([]byte, 0, requestSize)
	for _, word := range []uint32{request, uint32(id), uint32(pid)} {
		packet = binary.LittleEndian.AppendUint32(packet, word)
	}
	return packet
}
