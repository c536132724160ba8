package knocker

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	iphlpapi       = windows.NewLazySystemDLL("iphlpapi.dll")
	icmpCreate     = iphlpapi.NewProc("IcmpCreateFile")
	icmp6Create    = iphlpapi.NewProc("Icmp6CreateFile")
	icmpSendEcho   = iphlpapi.NewProc("IcmpSendEcho2")
	icmp6SendEcho  = iphlpapi.NewProc("Icmp6SendEcho2")
	icmpClose      = iphlpapi.NewProc("IcmpCloseHandle")
	echoTimeout    = uintptr(1000) // milliseconds
	anyIPv6Address = windows.RawSockaddrInet6{Family: windows.AF_INET6}
)

// sendEcho sends one echo request with a payload, which any user may on Windows.
//
// Windows itself waits for the answer, and writes it to memory that must stay valid
// until then. The handle must stay open, too: closing it cancels the request.
func sendEcho(to netip.Addr, payload []byte) error {
	create := icmp6Create
	if to.Is4() {
		create = icmpCreate
	}
	id, err := zone(to)
	if err != nil {
		return err
	}
	if err := create.Find(); err != nil {
		return err
	}
	handle, _, err := create.Call()
	if windows.Handle(handle) == windows.InvalidHandle {
		return err
	}
	answered, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		icmpClose.Call(handle)
		return err
	}
	answer := new([512]byte) // more than any answer to a short echo takes
	data := unsafe.Pointer(unsafe.SliceData(payload))
	var sent uintptr
	if to.Is4() {
		address := to.As4()
		sent, _, err = icmpSendEcho.Call(handle, uintptr(answered), 0, 0,
			uintptr(binary.LittleEndian.Uint32(address[:])), uintptr(data), uintptr(len(payload)), 0,
			uintptr(unsafe.Pointer(answer)), unsafe.Sizeof(*answer), echoTimeout)
	} else {
		address := &windows.RawSockaddrInet6{Family: windows.AF_INET6, Addr: to.As16(), Scope_id: id}
		sent, _, err = icmp6SendEcho.Call(handle, uintptr(answered), 0, 0,
			uintptr(unsafe.Pointer(&anyIPv6Address)), uintptr(unsafe.Pointer(address)), uintptr(data), uintptr(len(payload)), 0,
			uintptr(unsafe.Pointer(answer)), unsafe.Sizeof(*answer), echoTimeout)
	}
	end := func() {
		icmpClose.Call(handle)
		windows.CloseHandle(answered)
	}
	if sent == 0 && err != windows.ERROR_IO_PENDING {
		end()
		return err
	}
	go func() {
		windows.WaitForSingleObject(answered, windows.INFINITE) // no longer than echoTimeout
		end()
		runtime.KeepAlive(answer)
		runtime.KeepAlive(payload)
	}()
	return nil
}
