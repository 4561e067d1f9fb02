"""Which endpoints make a node announce an address under policy Local: the tables of FRR and BIRD judge, both families.

`of(80, FIRST)` are the ClusterIP, ExternalIP and LoadBalancerIP of each family with that number, told by that node.
Each picture has its own contrary in it or after it: what must not count stands beside what must.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.announced import FAMILIES, FIRST, GONE, LEAVING, READY, SECOND, UNREADY, Scene, of, slice_, two_nodes
from tests.lab.minicluster import Object
from tests.lab.netns import Family

pytestmark = pytest.mark.live

IPV4: tuple[Family, ...] = ("ipv4",)
IPV6: tuple[Family, ...] = ("ipv6",)
VIPS = ("198.51.100.80", "2001:db8::80")
"""Of `of(80)`."""
COUNTS: dict[str, Object | None] = {
    "said to be ready": READY,
    "without conditions": None,
    "with empty conditions": {},
    "with null conditions": {"ready": None, "serving": None, "terminating": None},
    "said to be serving, and no more": {"serving": True},
    "published though not ready": {"ready": True, "serving": False, "terminating": False},
    "published though terminating": {"ready": True, "serving": False, "terminating": True},
    "serving while terminating": LEAVING,
    "terminating, serving unsaid": {"ready": False, "terminating": True},
}
"""Conditions of an endpoint that can be used, when there is no other."""
DOES_NOT: dict[str, Object | None] = {
    "not ready": UNREADY,
    "said to be not ready, and no more": {"ready": False},
    "serving, neither ready nor terminating": {"ready": False, "serving": True, "terminating": False},
    "terminating and no longer serving": GONE,
}


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    yield from two_nodes()


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    built.clear()


# One endpoint.


def test_an_endpoint_counts_by_its_conditions_as_for_kube_proxy(scene: Scene) -> None:
    cases = [*((said, FIRST) for said in COUNTS.values()), *((said, None) for said in DOES_NOT.values())]
    wanted = dict[str, tuple[str, ...]]()
    for number, (said, teller) in enumerate(cases, 10):
        scene.local(f"web-{number}", number)
        scene.endpoints(f"web-{number}", (FIRST, said), slice_name=f"web-{number}")
        wanted |= of(number, *([teller] if teller else []))

    scene.told(wanted)


def test_who_is_terminating_does_not_count_while_one_is_ready_anywhere(scene: Scene) -> None:
    scene.local("web", 80)
    scene.endpoints("web", (FIRST, LEAVING), (SECOND, READY))
    scene.told(of(80, SECOND))

    scene.endpoints("web", (FIRST, LEAVING), (SECOND, LEAVING))
    scene.told(of(80, FIRST, SECOND))

    scene.endpoints("web", (FIRST, LEAVING), (SECOND, GONE))
    scene.told(of(80, FIRST))


def test_who_is_ready_counts_wherever_its_slice_says_it_is(scene: Scene) -> None:
    """Ready in one slice, terminating in another: the first node has both, the second only the other."""
    scene.local("web", 80)
    scene.endpoints("web", (FIRST, LEAVING), (SECOND, LEAVING), slice_name="old")
    scene.told(of(80, FIRST, SECOND))

    scene.ready("web", FIRST, slice_name="new")
    scene.told(of(80, FIRST))


def test_an_endpoint_on_no_node_is_nobodys(scene: Scene) -> None:
    scene.local("web", 80)
    scene.endpoints("web", (None, READY), ("", READY))
    scene.told({})

    scene.endpoints("web", (None, READY), (SECOND, READY))
    scene.told(of(80, SECOND))


def test_an_endpoint_on_no_node_is_one_that_is_ready(scene: Scene) -> None:
    """Somewhere outside the cluster: who is terminating here need not be asked any more."""
    scene.local("web", 80)
    scene.endpoints("web", (FIRST, LEAVING))
    scene.told(of(80, FIRST))

    scene.endpoints("web", (FIRST, LEAVING), (None, READY))
    scene.told({})


def test_an_endpoint_on_a_node_that_nobody_knows_is_nobodys(scene: Scene) -> None:
    scene.local("web", 80)
    scene.ready("web", "node-9")
    scene.told({})

    scene.ready("web", "node-9", FIRST)
    scene.told(of(80, FIRST))


def test_an_endpoint_that_moves_takes_the_addresses_with_it(scene: Scene) -> None:
    scene.local("web", 80)
    scene.ready("web", FIRST)
    scene.told(of(80, FIRST))

    scene.ready("web", SECOND)
    scene.told(of(80, SECOND))


# Slices.


def test_slices_of_one_service_add_up(scene: Scene) -> None:
    scene.local("web", 80)
    scene.ready("web", FIRST, slice_name="one")
    scene.told(of(80, FIRST))

    scene.ready("web", SECOND, slice_name="two")
    scene.told(of(80, FIRST, SECOND))

    scene.drop_slices("one")
    scene.told(of(80, SECOND))


def test_that_a_slice_is_split_is_not_told(scene: Scene) -> None:
    """The new slice is written first, as the controller does."""
    scene.local("web", 80)
    scene.ready("web", FIRST, SECOND, slice_name="one")
    scene.told(of(80, FIRST, SECOND))
    before = scene.heard(*VIPS)

    scene.ready("web", SECOND, slice_name="two")
    scene.seen()
    scene.ready("web", FIRST, slice_name="one")
    scene.told(of(80, FIRST, SECOND))

    assert scene.heard(*VIPS) == before


def test_a_slice_whose_last_endpoint_on_a_node_goes_is_not_told_while_another_slice_has_one_there(scene: Scene) -> None:
    scene.local("web", 80)
    for name in ("one", "two"):
        scene.ready("web", FIRST, slice_name=name)
    scene.told(of(80, FIRST))
    before = scene.heard(*VIPS)

    scene.drop_slices("one")
    scene.told(of(80, FIRST))
    assert scene.heard(*VIPS) == before

    scene.drop_slices("two")
    scene.told({})


def test_a_slice_that_gets_the_name_of_another_service_moves_there(scene: Scene) -> None:
    scene.local("web", 80)
    scene.local("shop", 90)
    scene.ready("web", FIRST)
    scene.ready("shop", SECOND, slice_name="shop")
    scene.told(of(80, FIRST) | of(90, SECOND))

    scene.ready("shop", FIRST)
    scene.told(of(90, FIRST, SECOND))


def test_a_slice_without_a_service_says_nothing_until_there_is_one(scene: Scene) -> None:
    scene.ready("web", FIRST)
    scene.told({})

    scene.local("web", 80)
    scene.told(of(80, FIRST))


def test_a_slice_without_a_services_name_says_nothing_until_it_has_one(scene: Scene) -> None:
    scene.local("web", 80)
    scene.api.apply(*(slice_(None, family, (FIRST, READY)) for family in FAMILIES))
    scene.told({})

    scene.ready("web", FIRST)
    scene.told(of(80, FIRST))

    scene.api.apply(*(slice_(None, family, (FIRST, READY)) for family in FAMILIES))
    scene.told({})


def test_a_service_without_a_slice_is_nobodys_until_it_has_one_and_again_without(scene: Scene) -> None:
    scene.local("web", 80)
    scene.told({})

    scene.ready("web", FIRST)
    scene.told(of(80, FIRST))

    scene.drop_slices()
    scene.told({})


def test_a_slice_of_another_namespace_says_nothing(scene: Scene) -> None:
    scene.local("web", 80)
    scene.api.apply(*(slice_("web", family, (FIRST, READY), namespace="shop") for family in FAMILIES))
    scene.ready("web", SECOND)

    scene.told(of(80, SECOND))


def test_a_slice_of_names_says_nothing(scene: Scene) -> None:
    scene.local("web", 80)
    names = [slice_("web", family, (FIRST, READY)) for family in FAMILIES]
    for slice_of_names in names:
        slice_of_names["addressType"] = "FQDN"
    scene.api.apply(*names)
    scene.ready("web", SECOND, slice_name="addresses")

    scene.told(of(80, SECOND))


# Two families.


def test_each_family_follows_its_own_slices(scene: Scene) -> None:
    scene.local("web", 80)
    scene.api.apply(slice_("web", "ipv4", (FIRST, READY)), slice_("web", "ipv6", (SECOND, READY)))
    scene.told(of(80, FIRST, families=IPV4) | of(80, SECOND, families=IPV6))

    scene.api.apply(slice_("web", "ipv4", (FIRST, LEAVING)), slice_("web", "ipv6", (SECOND, UNREADY), (FIRST, READY)))
    scene.told(of(80, FIRST))


@pytest.mark.parametrize("families", [IPV4, IPV6], ids=["ipv4", "ipv6"])
def test_a_family_without_a_slice_is_not_told(scene: Scene, families: tuple[Family, ...]) -> None:
    scene.local("web", 80)
    scene.api.apply(*(slice_("web", family, (FIRST, READY)) for family in families))

    scene.told(of(80, FIRST, families=families))


def test_a_slice_of_a_family_that_the_service_does_not_have_adds_nothing(scene: Scene) -> None:
    scene.local("web", 80, IPV4)
    scene.api.apply(slice_("web", "ipv4", (FIRST, LEAVING)), slice_("web", "ipv6", (SECOND, READY)))

    scene.told(of(80, FIRST, families=IPV4))


def test_a_service_that_gets_or_loses_its_second_family_is_followed(scene: Scene) -> None:
    scene.local("web", 80, IPV6)
    scene.ready("web", FIRST)
    scene.told(of(80, FIRST, families=IPV6))

    scene.local("web", 80)
    scene.told(of(80, FIRST))

    scene.local("web", 80, IPV4)
    scene.told(of(80, FIRST, families=IPV4))


# The Service itself.


def test_a_service_that_is_gone_is_told_by_nobody_though_its_slices_are_there(scene: Scene) -> None:
    scene.local("web", 80)
    scene.ready("web", FIRST)
    scene.told(of(80, FIRST))

    scene.api.delete("Service", "web", "default")
    scene.told({})


@pytest.mark.parametrize("noticed", [True, False], ids=["after a while", "at once"])
def test_a_service_that_comes_back_by_the_same_name_takes_the_slices_that_are_there(
    scene: Scene, noticed: bool
) -> None:
    """As kube-proxy does, which knows them by the Service's name: another UID is the same Service to it."""
    scene.local("web", 80)
    scene.ready("web", FIRST)
    scene.told(of(80, FIRST))

    scene.api.delete("Service", "web", "default")
    if noticed:
        scene.told({})
    scene.local("web", 90)
    scene.told(of(90, FIRST))

    scene.drop_slices()
    scene.ready("web", SECOND, slice_name="its-own")
    scene.told(of(90, SECOND))
