package hosts

import "postern/internal/document"

// Secrecy is whether knocks and keys themselves are shown, or only which of them
// there are.
type Secrecy int

const (
	Counted Secrecy = iota
	Disclosed
)

// A JSON is a host as programs read it.
type JSON struct {
	Name        string   `json:"name"`
	Address     string   `json:"address"`
	Service     string   `json:"service"`
	Knocks      int      `json:"knocks"`
	Sequence    []string `json:"sequence,omitempty"`
	Closing     []string `json:"close,omitempty"`
	Closable    bool     `json:"closable"`        // whether it is known how to close the door
	Token       uint16   `json:"token,omitempty"` // the port; a host that has one has a key
	Key         string   `json:"key,omitempty"`
	Device      string   `json:"device,omitempty"`  // whose key it is, as keys.yaml on the server numbers devices
	Keyring     bool     `json:"keyring,omitempty"` // the key is in the system's key store
	StepTimeout string   `json:"step_timeout,omitempty"`
	Gap         string   `json:"gap,omitempty"`
	Timeout     string   `json:"timeout"`
	Family      int      `json:"family,omitempty"`
	User        string   `json:"user,omitempty"`
}

// JSON returns the host for programs.
func (h *Host) JSON(show Secrecy) JSON {
	j := JSON{
		Name: h.Name, Address: h.Address, Service: h.Service.String(), Knocks: len(h.Knock),
		Closable: h.Closable(), Token: h.Token, Keyring: h.Stored, Timeout: document.FormatDuration(h.Timeout),
		Family: int(h.Family), User: h.User,
	}
	if h.Key == nil {
		j.StepTimeout = document.FormatDuration(h.StepTimeout)
	}
	if h.Key != nil && !h.Stored {
		j.Device = h.Key.Device.String()
	}
	if h.Gap != 0 {
		j.Gap = document.FormatDuration(h.Gap)
	}
	if show == Disclosed {
		for _, p := range h.Knock {
			j.Sequence = append(j.Sequence, p.String())
		}
		for _, p := range h.Close {
			j.Closing = append(j.Closing, p.String())
		}
		if h.Key != nil && !h.Stored {
			j.Key = h.Key.Encode()
		}
	}
	return j
}
