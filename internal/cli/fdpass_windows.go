package cli

import (
	"context"
	"net"

	"github.com/spf13/cobra"
)

// canPassSocket: Windows has no sockets that sockets can be sent by, and its ssh no
// use for them.
const canPassSocket = false

func passFlag(*cobra.Command, *bool) {}

func canReceive() error { return nobodyToReceive() }

func handOver(context.Context, *net.TCPConn) error { return nobodyToReceive() }
