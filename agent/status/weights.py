"""What each Problem means for the health of this node: the one table of it, and the README's is compared with it.

The question behind each word: does something not work on this node that somebody has asked for? Problems that stand
beside something that works (a hint, a choice that the rules make) do not count, nor do those whose effect is seen
anyway: as a session that is not up, or a watch that is broken. When a node is well is `agent.status.health`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from itertools import chain
from typing import Final


class Weight(enum.StrEnum):
    SPEAKER = "ExaBGP"
    """`degraded` while some session is up, else `no`."""
    NO_BGP = "own Node"
    """`no` when the own node is nothing in BGP because of it, else `degraded`; another's says its own agent."""
    OWN = "own Node, in part"
    """`degraded`, of the own node only."""
    FAULT = "fault"
    """`degraded`."""
    NOTE = "note"
    """Nothing."""


_WORDS: Final[Mapping[Weight, tuple[str, ...]]] = {
    Weight.SPEAKER: ("cannotListen", "exabgpUnusable", "speakerDown", "speakerSilent"),
    Weight.NO_BGP: (
        "asnInvalid",
        "asnMissing",
        "nodeAddressConflict",
        "nodeNotFound",
        "nodeWithoutAddress",
        "notInListenAddresses",
    ),
    Weight.FAULT: (
        # What ExaBGP does not take; what stood before stays in force.
        "configurationRefused",
        # An object is not used, or not all of it.
        "malformedObject",
        "prefixInUse",
        "clusterIDShared",
        # A BGPPeer selects this node, and no session comes of it; or a session must not be.
        "defaultGatewayMissing",
        "gatewayLinkLocal",
        "linkLocalPassive",
        "linkLocalWithoutInterface",
        "maxPrefixesExceeded",
        "noAddressOfFamily",
        "noLinkLocalAddress",
        "passwordTooLong",
        "peerAddressConflict",
        "peerAddressInvalid",
        "peerAddressMissing",
        "peerIsThisNode",
        "peerRefused",
        "secretKeyMissing",
        "secretMissing",
        "sourceAddressFamily",
        "sourceAddressNotHere",
        "sourceInterfaceMissing",
        "sourceInterfaceOffLink",
        # There is a session, and it does not carry what it should.
        "familyNotNegotiated",
        "malformedUpdate",
        "nextHopNotNegotiated",
        "noCommonFamily",
    ),
    Weight.OWN: (
        "duplicateRouterID",
        "forwardingOff",
        "nodeWithoutPodCIDR",
        "podCIDRConflict",
        "podCIDRInNodeSubnet",
        "routerIDInvalid",
    ),
    Weight.NOTE: (
        # All works, and might be better.
        "daemonSetNotFound",
        "foreignShapedRoute",
        "foreignShapedRule",
        "maxPrefixesNear",
        "meshTooLarge",
        "noEffect",
        "reflectorsMissing",
        # As asked for, or as the rules say.
        "advertisementSelectsNothing",
        "agentUninstalled",
        "controlPlaneExcluded",
        "instanceConflicted",
        "nodeDeleted",
        "nodeDrained",
        "nodeDraining",
        "nodeExcluded",
        "noPeer",
        "nodeSelectorSelectsNothing",
        "peerSelectorSelectsNothing",
        # Of one Service, and an Event tells its owner: no tenant makes all nodes unwell.
        "annotationInvalid",
        "sharedWithoutEndpoint",
        # The sessions that they keep down count.
        "meshPasswordsDiffer",
        # The watch that is broken counts; one that only writes Events keeps nothing from working.
        "apiBusy",
        "apiFailed",
        "apiForbidden",
        "apiNotFound",
        "apiUnauthorized",
        "apiUnreachable",
        "apiUntrusted",
        "revisionExpired",
        "revisionWentBack",
        "witnessChanged",
        "streamBroken",
        "streamEnded",
        "streamSilent",
        "streamTooShort",
        "textTooLong",
    ),
}
WEIGHTS: Final[Mapping[str, Weight]] = dict(
    chain.from_iterable(((word, weight) for word in words) for weight, words in _WORDS.items())
)


def weight_of(reason: str) -> Weight:
    """A word that nobody has weighed counts rather than be overlooked."""
    return WEIGHTS.get(reason, Weight.FAULT)
