package turnapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/turn"
)

// A policy is a turn.Policy as JSON. Rates are bits a second, 0 is no bound.
type policy struct {
	Peers peers `json:"peers"`

	UserQuota   int `json:"userQuota"`
	RealmQuota  int `json:"realmQuota"`
	ServerQuota int `json:"serverQuota"`

	SessionRate int64 `json:"sessionRate"`
	UserRate    int64 `json:"userRate"`
	RealmRate   int64 `json:"realmRate"`
	ServerRate  int64 `json:"serverRate"`

	Lifetime           duration `json:"lifetime"`
	MaxLifetime        duration `json:"maxLifetime"`
	PermissionLifetime duration `json:"permissionLifetime"`
	ChannelLifetime    duration `json:"channelLifetime"`

	MaxPermissions int `json:"maxPermissions"`
	MaxChannels    int `json:"maxChannels"`
	MaxConnections int `json:"maxConnections"`

	NonceLife            duration `json:"nonceLife"`
	UnauthenticatedRate  float64  `json:"unauthenticatedRate"`
	UnauthenticatedBurst int      `json:"unauthenticatedBurst"`
	BindingRate          float64  `json:"bindingRate"`
	IdleTimeout          duration `json:"idleTimeout"`

	NoBinding       bool `json:"noBinding"`
	Mobility        bool `json:"mobility"`
	RFC5766Channels bool `json:"rfc5766Channels"`
	ClientFamily    bool `json:"clientFamily"`
	NoTCP           bool `json:"noTCP"`
	NoUDP           bool `json:"noUDP"`

	Alternates []alternate `json:"alternates"`
}

// peers is a turn.PeerPolicy.
type peers struct {
	Allow              []ipRange        `json:"allow"`
	Deny               []ipRange        `json:"deny"`
	Endpoints          []netip.AddrPort `json:"endpoints"`
	OnlyAllowed        bool             `json:"onlyAllowed"`
	AllowLoopback      bool             `json:"allowLoopback"`
	AllowPrivate       bool             `json:"allowPrivate"`
	AllowLinkLocal     bool             `json:"allowLinkLocal"`
	AllowMulticast     bool             `json:"allowMulticast"`
	AllowDocumentation bool             `json:"allowDocumentation"`
	AllowTunnels       bool             `json:"allowTunnels"`
	AllowReserved      bool             `json:"allowReserved"`
	AllowSelf          bool             `json:"allowSelf"`
}

// alternate is a turn.Alternate.
type alternate struct {
	Server    netip.AddrPort `json:"server"`
	Domain    string         `json:"domain,omitempty"`
	Weight    int            `json:"weight,omitempty"`
	Transport string         `json:"transport,omitempty"`
	NoProbe   bool           `json:"noProbe,omitempty"`
}

// ipRange is "a", "a-b" or "a/bits".
type ipRange auth.IPRange

func (r ipRange) MarshalText() ([]byte, error) { return []byte(auth.IPRange(r).String()), nil }

func (r *ipRange) UnmarshalText(b []byte) error {
	v, err := auth.ParseIPRange(string(b))
	*r = ipRange(v)
	return err
}

// duration is "10m".
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = duration(v)
	return err
}

func fromPolicy(p *turn.Policy) *policy {
	out := &policy{
		Peers: peers{
			Allow: ranges[ipRange](p.Peers.Allow), Deny: ranges[ipRange](p.Peers.Deny),
			Endpoints: p.Peers.Endpoints, OnlyAllowed: p.Peers.OnlyAllowed,
			AllowLoopback: p.Peers.AllowLoopback, AllowPrivate: p.Peers.AllowPrivate, AllowLinkLocal: p.Peers.AllowLinkLocal,
			AllowMulticast: p.Peers.AllowMulticast, AllowDocumentation: p.Peers.AllowDocumentation,
			AllowTunnels: p.Peers.AllowTunnels, AllowReserved: p.Peers.AllowReserved, AllowSelf: p.Peers.AllowSelf,
		},
		UserQuota: p.UserQuota, RealmQuota: p.RealmQuota, ServerQuota: p.ServerQuota,
		SessionRate: p.SessionRate, UserRate: p.UserRate, RealmRate: p.RealmRate, ServerRate: p.ServerRate,
		Lifetime: duration(p.Lifetime), MaxLifetime: duration(p.MaxLifetime),
		PermissionLifetime: duration(p.PermissionLifetime), ChannelLifetime: duration(p.ChannelLifetime),
		MaxPermissions: p.MaxPermissions, MaxChannels: p.MaxChannels, MaxConnections: p.MaxConnections,
		NonceLife: duration(p.NonceLife), UnauthenticatedRate: p.UnauthenticatedRate, UnauthenticatedBurst: p.UnauthenticatedBurst,
		BindingRate: p.BindingRate, IdleTimeout: duration(p.IdleTimeout),
		NoBinding: p.NoBinding, Mobility: p.Mobility, RFC5766Channels: p.RFC5766Channels, ClientFamily: p.ClientFamily,
		NoTCP: p.NoTCP, NoUDP: p.NoUDP,
		Alternates: make([]alternate, 0, len(p.Alternates)),
	}
	for _, a := range p.Alternates {
		out.Alternates = append(out.Alternates, alternate(a))
	}
	return out
}

func (p *policy) policy() *turn.Policy {
	out := &turn.Policy{
		Peers: turn.PeerPolicy{
			Allow: ranges[auth.IPRange](p.Peers.Allow), Deny: ranges[auth.IPRange](p.Peers.Deny),
			Endpoints: p.Peers.Endpoints, OnlyAllowed: p.Peers.OnlyAllowed,
			AllowLoopback: p.Peers.AllowLoopback, AllowPrivate: p.Peers.AllowPrivate, AllowLinkLocal: p.Peers.AllowLinkLocal,
			AllowMulticast: p.Peers.AllowMulticast, AllowDocumentation: p.Peers.AllowDocumentation,
			AllowTunnels: p.Peers.AllowTunnels, AllowReserved: p.Peers.AllowReserved, AllowSelf: p.Peers.AllowSelf,
		},
		UserQuota: p.UserQuota, RealmQuota: p.RealmQuota, ServerQuota: p.ServerQuota,
		SessionRate: p.SessionRate, UserRate: p.UserRate, RealmRate: p.RealmRate, ServerRate: p.ServerRate,
		Lifetime: time.Duration(p.Lifetime), MaxLifetime: time.Duration(p.MaxLifetime),
		PermissionLifetime: time.Duration(p.PermissionLifetime), ChannelLifetime: time.Duration(p.ChannelLifetime),
		MaxPermissions: p.MaxPermissions, MaxChannels: p.MaxChannels, MaxConnections: p.MaxConnections,
		NonceLife: time.Duration(p.NonceLife), UnauthenticatedRate: p.UnauthenticatedRate, UnauthenticatedBurst: p.UnauthenticatedBurst,
		BindingRate: p.BindingRate, IdleTimeout: time.Duration(p.IdleTimeout),
		NoBinding: p.NoBinding, Mobility: p.Mobility, RFC5766Channels: p.RFC5766Channels, ClientFamily: p.ClientFamily,
		NoTCP: p.NoTCP, NoUDP: p.NoUDP,
	}
	for _, a := range p.Alternates {
		out.Alternates = append(out.Alternates, turn.Alternate(a))
	}
	return out
}

func ranges[To, From ~struct{ From, To netip.Addr }](in []From) []To {
	out := make([]To, 0, len(in))
	for _, r := range in {
		out = append(out, To(r))
	}
	return out
}

// check refuses what a slip would do harm with.
func (p *policy) check() error {
	for _, n := range []float64{
		float64(p.UserQuota), float64(p.RealmQuota), float64(p.ServerQuota), float64(p.SessionRate), float64(p.UserRate),
		float64(p.RealmRate), float64(p.ServerRate), float64(p.Lifetime), float64(p.MaxLifetime), float64(p.PermissionLifetime),
		float64(p.ChannelLifetime), float64(p.MaxPermissions), float64(p.MaxChannels), float64(p.MaxConnections),
		float64(p.NonceLife), float64(p.UnauthenticatedBurst), float64(p.BindingRate), float64(p.IdleTimeout),
	} {
		if n < 0 {
			return errors.New("only unauthenticatedRate may be negative")
		}
	}
	for _, a := range p.Alternates {
		if !a.Server.IsValid() || a.Server.Port() == 0 {
			return fmt.Errorf("alternate %v: an address and a port are needed", a.Server)
		}
	}
	return nil
}

func (h *Handler) getPolicy(c *rest.Call) {
	c.Answer(fromPolicy(h.Server.CurrentPolicy()))
}

// patchPolicy changes what the body names. A list takes the place of the old
// one.
func (h *Handler) patchPolicy(c *rest.Call) {
	var body json.RawMessage
	if !c.Read(&body) {
		return
	}
	h.policyMu.Lock()
	defer h.policyMu.Unlock()
	next := fromPolicy(h.Server.CurrentPolicy())
	if !c.Unchanged(next) {
		return
	}
	// JSON decodes over the elements of a slice: lists that are given begin empty.
	var lists struct {
		Alternates json.RawMessage
		Peers      struct{ Allow, Deny, Endpoints json.RawMessage }
	}
	_ = json.Unmarshal(body, &lists) // what is wrong is told below
	if lists.Alternates != nil {
		next.Alternates = nil
	}
	if lists.Peers.Allow != nil {
		next.Peers.Allow = nil
	}
	if lists.Peers.Deny != nil {
		next.Peers.Deny = nil
	}
	if lists.Peers.Endpoints != nil {
		next.Peers.Endpoints = nil
	}
	if err := rest.Decode(bytes.NewReader(body), next); err != nil {
		c.Refuse(http.StatusBadRequest, "body: "+err.Error())
		return
	}
	if err := next.check(); err != nil {
		c.Refuse(http.StatusUnprocessableEntity, err.Error())
		return
	}
	h.Server.SetPolicy(next.policy())
	c.Answer(fromPolicy(h.Server.CurrentPolicy()))
}
