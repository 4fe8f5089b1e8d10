package webrtc

import (
	"slices"
	"strconv"
	"strings"

	pion "github.com/pion/rtp"
)

// maxLayers bounds the pictures of one simulcast.
const maxLayers = 4

// simulcast reads which layers an m-line sends: by the restriction identifiers of
// RFC 8853, of which sent have been declared, or by the group of SSRCs that
// browsers wrote before.
func (m *Media) simulcast(attribute string, sent []string, groups map[string][][]uint32) {
	for _, rid := range parseSimulcast(attribute) {
		if slices.Contains(sent, rid) && !slices.Contains(m.RIDs, rid) && len(m.RIDs) < maxLayers {
			m.RIDs = append(m.RIDs, rid)
		}
	}
	if len(m.RIDs) > 0 {
		return
	}
	for _, sim := range groups["SIM"] {
		if len(sim) < 2 || len(sim) > maxLayers || len(m.ssrcs) > 0 {
			continue
		}
		m.ssrcs = make(map[uint32]string)
		for i, ssrc := range sim {
			m.RIDs = append(m.RIDs, strconv.Itoa(i))
			m.ssrcs[ssrc] = m.RIDs[i]
		}
		for _, pair := range groups["FID"] {
			if len(pair) == 2 && m.ssrcs[pair[0]] != "" {
				m.ssrcs[pair[1]] = m.ssrcs[pair[0]] // of its retransmissions
			}
		}
	}
}

// parseSimulcast returns the identifiers of what is sent, of an attribute such as
// "send 1;~2,3 recv 4" (RFC 8853 Section 5.1): of alternatives the first, paused
// ones too.
func parseSimulcast(v string) (rids []string) {
	fields := strings.Fields(v)
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] != "send" {
			continue
		}
		for list := range strings.SplitSeq(fields[i+1], ";") {
			rid, _, _ := strings.Cut(list, ",")
			if rid = strings.TrimPrefix(rid, "~"); isRID(rid) && len(rids) < 2*maxLayers {
				rids = append(rids, rid)
			}
		}
	}
	return rids
}

// isRID reports whether a text is a restriction identifier (RFC 8851 Section 10),
// and not a long one.
func isRID(s string) bool {
	if s == "" || len(s) > 16 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// ssrcGroup reads an ssrc-group attribute, such as "SIM 1 2 3" (RFC 5576 Section
// 4.2).
func ssrcGroup(v string) (semantics string, ssrcs []uint32) {
	fields := strings.Fields(v)
	if len(fields) < 2 || len(fields) > 1+2*maxLayers {
		return "", nil
	}
	for _, f := range fields[1:] {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return "", nil
		}
		ssrcs = append(ssrcs, uint32(n))
	}
	return fields[0], ssrcs
}

// layerOf returns the layer of a packet of a line, which is said by its header
// until the sender knows that we know its SSRC; "" if it can't be told, or there
// are no layers. repair is for a retransmission.
func (l *line) layerOf(h *pion.Header, repair bool) string {
	m := l.media
	if layer := m.ssrcs[h.SSRC]; layer != "" {
		return layer
	}
	uri := uriRID
	if repair {
		uri = uriRepairedRID
	}
	id := m.Extensions[uri]
	if id == 0 {
		return ""
	}
	said := h.GetExtension(id)
	for _, rid := range m.RIDs {
		if string(said) == rid {
			return rid
		}
	}
	return ""
}
