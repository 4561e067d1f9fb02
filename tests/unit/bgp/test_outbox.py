"""The outbox against a model of ExaBGP that refuses, restarts, loses answers and peers; and each promise by itself."""

from __future__ import annotations

from collections import deque
from ipaddress import ip_address, ip_network
from itertools import groupby, islice

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgp.commands import Announce, SendEndOfRib, Withdraw
from bgp.model import Attributes, Family, Route, RouteKey
from bgp.outbox import KEYS_PER_STEP, PEERS_PER_COMMAND, WINDOW, WINDOW_KEYS, Outbox
from bgp.queues import OVERTAKEN_MAX
from bgp.retry import RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS

A, B, C = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3))
PEERS = (A, B, C)
PREFIXES = tuple(ip_network(p) for p in ("10.0.0.0/24", "10.0.1.0/24", "fd00::/64"))
P, Q, _ = PREFIXES
SELF = ip_address("192.0.2.9")


def route(prefix, med=0):
    return Route(prefix, SELF, Attributes(med=med))


class ExaBgp:
    """What is known of ExaBGP 5.0.15, as far as the outbox can see it."""

    def __init__(self):
        self.tables = {}
        self.families = {}
        """Of each neighbor; who is not in it has all."""
        self.pipe = deque()
        self.updates = 0
        self.end_of_rib = []
        self.refuses = set()

    def carry_out(self):
        command = self.pipe.popleft()
        there = [peer for peer in command.peers if peer in self.tables]
        if not there:
            return False
        match command:
            case SendEndOfRib():
                self.end_of_rib.append(command)
            case _ if any(RouteKey(peer, command.prefix) in self.refuses for peer in there):
                return False  # all of it, or nothing
            case Announce():
                for peer in filter(lambda peer: self.carries(peer, command.prefix), there):
                    self.updates += self.tables[peer].get(command.prefix) != command.route
                    self.tables[peer][command.prefix] = command.route
            case Withdraw():
                for peer in there:
                    self.updates += 1
                    self.tables[peer].pop(command.prefix, None)
        return True

    def carries(self, peer, prefix):
        return Family.of(prefix) in self.families.get(peer, Family)

    def reload(self, peer, families):
        self.families[peer] = families
        table = self.tables[peer]
        self.tables[peer] = {prefix: route for prefix, route in table.items() if self.carries(peer, prefix)}

    def told(self):
        return {RouteKey(peer, prefix): r for peer, table in self.tables.items() for prefix, r in table.items()}


CHANGES = st.lists(st.tuples(st.sampled_from(PEERS), st.sampled_from(PREFIXES), st.none() | st.integers(0, 2)))


class Histories(RuleBasedStateMachine):
    """Any order of wants, answers, losses, restarts and reloads ends with ExaBGP's table as wanted."""

    def __init__(self):
        super().__init__()
        self.outbox = Outbox(keys_per_step=1)
        self.exabgp = ExaBgp()
        self.wanted = {}
        self.now = 100.0
        self.up = {}
        self.lost = set()

    @initialize(peers=st.sets(st.sampled_from(PEERS), min_size=1))
    def start(self, peers):
        for peer in sorted(peers):
            self.add_peer(peer)

    @rule(peer=st.sampled_from(PEERS), prefix=st.sampled_from(PREFIXES), med=st.integers(0, 2))
    def want(self, peer, prefix, med):
        self.wanted[RouteKey(peer, prefix)] = route(prefix, med)
        self.outbox.want(RouteKey(peer, prefix), route(prefix, med))

    @rule(peer=st.sampled_from(PEERS), prefix=st.sampled_from(PREFIXES))
    def want_no_more(self, peer, prefix):
        self.wanted.pop(RouteKey(peer, prefix), None)
        self.outbox.want(RouteKey(peer, prefix), None)

    @rule(peer=st.sampled_from(PEERS))
    def add_peer(self, peer):
        self.exabgp.tables[peer] = {}
        self.exabgp.families.pop(peer, None)
        self.outbox.peer_added(peer)

    @rule(peer=st.sampled_from(PEERS), families=st.sets(st.sampled_from(list(Family)), min_size=1))
    def a_reload_changes_families(self, peer, families):
        while self.exabgp.pipe:
            self.outbox.answered(self.exabgp.carry_out(), self.now)
        if peer in self.exabgp.tables:
            self.exabgp.reload(peer, families)
            for _ in self.outbox.carrying(peer, families):
                pass

    @rule(peer=st.sampled_from(PEERS), stays=st.booleans(), changes=CHANGES)
    def a_reload_is_taken_in_steps(self, peer, stays, changes):
        """Nothing is in flight then, and nothing is sent; wants change meanwhile."""
        while self.exabgp.pipe:
            self.outbox.answered(self.exabgp.carry_out(), self.now)
        self.exabgp.tables.pop(peer, None)
        self.exabgp.families.pop(peer, None)
        if stays:
            self.exabgp.tables[peer] = {}
        self.up.pop(peer, None)
        self.outbox.session_down(peer)
        changes = iter(changes)
        for _ in self.outbox.adding(peer) if stays else self.outbox.removing(peer):
            for other, prefix, med in islice(changes, 1):
                self.want(other, prefix, med) if med is not None else self.want_no_more(other, prefix)

    @rule(peer=st.sampled_from(PEERS))
    def remove_peer(self, peer):
        self.exabgp.tables.pop(peer, None)
        self.up.pop(peer, None)
        self.outbox.peer_removed(peer)

    @rule(peer=st.sampled_from(PEERS), families=st.sets(st.sampled_from(list(Family)), min_size=1))
    def session_up(self, peer, families):
        if peer in self.exabgp.tables:
            self.up[peer] = (set(families), len(self.exabgp.end_of_rib))
            self.outbox.session_up(peer, families)

    @rule(peer=st.sampled_from(PEERS))
    def session_down(self, peer):
        self.up.pop(peer, None)
        self.outbox.session_down(peer)

    @rule(count=st.integers(1, 4))
    def send(self, count):
        for _ in range(count):
            if (command := self.outbox.next_command(self.now)) is not None:
                self.exabgp.pipe.append(command)
                if isinstance(command, SendEndOfRib):
                    self.all_it_closes_is_told(command)

    @precondition(lambda self: self.exabgp.pipe)
    @rule(count=st.integers(1, 4))
    def answer(self, count):
        for _ in range(min(count, len(self.exabgp.pipe))):
            self.outbox.answered(self.exabgp.carry_out(), self.now)

    @rule(peer=st.sampled_from(PEERS), prefix=st.sampled_from(PREFIXES))
    def begin_to_refuse(self, peer, prefix):
        self.exabgp.refuses.add(RouteKey(peer, prefix))

    @rule(carried_out=st.integers(0, 4))
    def lose_the_bridge(self, carried_out):
        while self.exabgp.pipe:
            if carried_out > 0:
                self.exabgp.carry_out()
            else:
                self.exabgp.pipe.popleft()
            carried_out -= 1
        self.outbox.disconnected()

    @rule()
    def restart(self):
        self.exabgp.pipe.clear()
        self.exabgp.tables.clear()
        self.exabgp.families.clear()
        self.up.clear()
        self.outbox.restarted()

    @rule(key=st.builds(RouteKey, st.sampled_from(PEERS), st.sampled_from(PREFIXES)))
    def lose_a_route_silently(self, key):
        if self.exabgp.tables.get(key.peer, {}).pop(key.prefix, None):
            self.lost.add(key)

    @rule()
    def audit(self):
        # The speaker asks only when all is answered.
        while self.exabgp.pipe:
            self.outbox.answered(self.exabgp.carry_out(), self.now)
        self.outbox.read_back(self.exabgp.told(), list(self.exabgp.tables))
        self.lost.clear()
        assert self.outbox.read_back(self.exabgp.told(), list(self.exabgp.tables)) == 0

    @rule(seconds=st.sampled_from([0.5, 5.0, 100.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def restart_the_agent(self):
        """A new outbox in front of the ExaBGP that is there."""
        self.exabgp.pipe.clear()
        self.outbox = Outbox(keys_per_step=1)
        self.lost.clear()
        for key, wanted in self.wanted.items():
            self.outbox.want(key, wanted)
        assert self.outbox.read_back(self.exabgp.told(), list(self.exabgp.tables)) == 0
        for peer in self.exabgp.tables:  # by the reload that follows
            for _ in self.outbox.carrying(peer, self.exabgp.families.get(peer, Family)):
                pass
        for peer, (families, _) in self.up.items():
            self.up[peer] = (families, len(self.exabgp.end_of_rib))
            self.outbox.session_up(peer, families)

    @invariant()
    def the_window_holds(self):
        assert self.outbox.in_flight == len(self.exabgp.pipe) <= WINDOW

    @invariant()
    def what_exabgp_may_hold_is_never_denied(self):
        """Except for what it silently lost, which only an audit can tell; that errs to the safe side."""
        held = {prefix for table in self.exabgp.tables.values() for prefix in table}

        assert all(self.outbox.may_hold(prefix) for prefix in held)

    def all_it_closes_is_told(self, marker):
        failing = self.outbox.failing.keys() | self.lost
        for key, wanted in self.wanted.items():
            if key.peer == marker.peer and key not in failing and self.exabgp.carries(*key):
                assert self.exabgp.tables[key.peer].get(key.prefix) == wanted

    def quiet(self):
        self.exabgp.refuses.clear()
        self.audit()
        updates, differing = self.exabgp.updates, self.differing()
        while True:
            self.send(1)
            if self.exabgp.pipe:
                self.answer(1)
            elif self.outbox.next_retry_at is not None:
                self.now = max(self.now, self.outbox.next_retry_at)
            else:
                break
        assert self.exabgp.updates - updates == differing

    def differing(self):
        told = self.exabgp.told()
        wanted = self.possible()
        return sum(told.get(key) != wanted.get(key) for key in told.keys() | wanted.keys())

    def possible(self):
        """What is wanted, and ExaBGP has a place for."""
        there = self.exabgp.tables
        return {key: r for key, r in self.wanted.items() if key.peer in there and self.exabgp.carries(*key)}

    @rule()
    def it_converges(self):
        self.quiet()

        assert self.exabgp.told() == self.possible()
        assert self.outbox.idle
        assert list(self.outbox.unsettled()) == []
        assert not self.outbox.failing
        assert self.outbox.next_retry_at is None
        for peer, (families, since) in self.up.items():
            sent = {marker.family for marker in self.exabgp.end_of_rib[since:] if marker.peer == peer}
            assert families <= sent
        held = {prefix for table in self.exabgp.tables.values() for prefix in table}
        assert {prefix for prefix in PREFIXES if self.outbox.may_hold(prefix)} == held
        for peer in PEERS:
            told = self.exabgp.tables.get(peer, {})
            for prefix in PREFIXES:
                assert self.outbox.is_told(RouteKey(peer, prefix)) == (prefix in told)
                assert self.outbox.is_settled(RouteKey(peer, prefix)) or (peer, prefix) in self.wanted
            for family in Family:
                assert self.outbox.told_count(peer, family) == sum(Family.of(prefix) is family for prefix in told)
                assert len(list(self.outbox.told_to(peer, family))) == self.outbox.told_count(peer, family)

    def teardown(self):
        self.it_converges()


Histories.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase


@pytest.fixture
def outbox():
    outbox = Outbox()
    outbox.peer_added(A)
    return outbox


def drain(outbox, now=0.0):
    """Carry out and confirm all there is to do."""
    commands = []
    while (command := outbox.next_command(now)) is not None:
        commands.append(command)
        outbox.answered(True, now)
    return commands


def test_a_route_for_a_peer_exabgp_does_not_have_waits_for_it():
    outbox = Outbox()
    outbox.want(RouteKey(A, P), route(P))
    assert outbox.next_command(0.0) is None

    outbox.peer_added(A)

    assert outbox.next_command(0.0) == Announce((A,), route(P))


def test_a_change_of_mind_before_sending_costs_nothing(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.want(RouteKey(A, P), None)

    assert outbox.idle
    assert outbox.next_command(0.0) is None


def test_what_was_to_be_told_of_a_family_that_is_taken_away_is_not_told(outbox):
    outbox.want(RouteKey(A, P), route(P))
    for _ in outbox.carrying(A, {Family.IPV6}):
        pass

    assert outbox.next_command(0.0) is None
    assert not outbox.may_hold(P)
    for _ in outbox.carrying(A, {Family.IPV4}):
        pass
    assert outbox.next_command(0.0) == Announce((A,), route(P))


def test_a_change_of_mind_in_flight_is_told_after_the_answer(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.next_command(0.0)
    outbox.want(RouteKey(A, P), None)
    assert outbox.next_command(0.0) is None

    outbox.answered(True, 0.0)

    assert outbox.next_command(0.0) == Withdraw((A,), P)


def members_of(aggregate, count):
    return [*aggregate.subnets(new_prefix=32)][:count]


AGGREGATE = ip_network("198.51.0.0/16")


@pytest.mark.parametrize("count", [1, 30, OVERTAKEN_MAX])
@pytest.mark.parametrize("into_one", [True, False])
def test_what_takes_the_place_of_others_is_announced_before_they_are_withdrawn(outbox, count, into_one):
    members = members_of(AGGREGATE, count)
    before, after = (members, [AGGREGATE]) if into_one else ([AGGREGATE], members)
    for prefix in before:
        outbox.want(RouteKey(A, prefix), route(prefix))
    drain(outbox)
    for prefix in before:
        outbox.want(RouteKey(A, prefix), None)
    for prefix in after:
        outbox.want(RouteKey(A, prefix), route(prefix))

    assert drain(outbox) == [
        *(Announce((A,), route(prefix)) for prefix in after),
        *(Withdraw((A,), prefix) for prefix in before),
    ]


def test_what_takes_the_place_of_others_goes_first_after_a_restart_of_the_agent_too():
    outbox, members = Outbox(), members_of(AGGREGATE, 30)
    outbox.want(RouteKey(A, AGGREGATE), route(AGGREGATE))
    outbox.read_back({RouteKey(A, prefix): route(prefix) for prefix in members}, [A])

    first, *others = drain(outbox)
    assert first == Announce((A,), route(AGGREGATE))
    assert {type(command) for command in others} == {Withdraw}


def test_a_withdrawal_is_not_kept_waiting_by_a_full_table(outbox):
    outbox.want(RouteKey(A, P), route(P))
    drain(outbox)
    outbox.want(RouteKey(A, P), None)
    for prefix in members_of(AGGREGATE, 3 * OVERTAKEN_MAX):
        outbox.want(RouteKey(A, prefix), route(prefix))

    assert drain(outbox).index(Withdraw((A,), P)) == OVERTAKEN_MAX


def test_announcements_are_not_kept_waiting_by_withdrawals_for_longer_than_these_by_them(outbox):
    members = members_of(AGGREGATE, 10 * OVERTAKEN_MAX)
    for prefix in members:
        outbox.want(RouteKey(A, prefix), route(prefix))
    drain(outbox)
    for number, prefix in enumerate(members):
        outbox.want(RouteKey(A, prefix), route(prefix, med=7) if number % 2 else None)

    kinds = [type(command) for command in drain(outbox)]
    runs = [len(list(run)) for _, run in groupby(kinds)]
    assert runs[0] == OVERTAKEN_MAX
    assert max(runs) <= OVERTAKEN_MAX
    assert kinds.count(Withdraw) == kinds.count(Announce) == 5 * OVERTAKEN_MAX


def test_a_replaced_route_is_announced_once_and_not_withdrawn(outbox):
    outbox.want(RouteKey(A, P), route(P))
    drain(outbox)
    outbox.want(RouteKey(A, P), route(P, med=5))

    assert drain(outbox) == [Announce((A,), route(P, med=5))]


def test_a_refused_first_announce_is_never_withdrawn(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.next_command(0.0)
    outbox.answered(False, 0.0)
    outbox.want(RouteKey(A, P), None)

    assert drain(outbox, 1000.0) == []
    assert not outbox.may_hold(P)


def test_what_was_lost_with_the_bridge_is_withdrawn_when_no_longer_wanted(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.next_command(0.0)
    outbox.disconnected()
    outbox.want(RouteKey(A, P), None)

    assert drain(outbox) == [Withdraw((A,), P)]


def test_the_window_is_bounded(outbox):
    for n in range(2 * WINDOW):
        prefix = ip_network(f"10.1.{n}.0/24")
        outbox.want(RouteKey(A, prefix), route(prefix))

    sent = [outbox.next_command(0.0) for _ in range(WINDOW)]

    assert None not in sent
    assert outbox.next_command(0.0) is None
    outbox.answered(True, 0.0)
    assert outbox.next_command(0.0) is not None


def test_peers_that_are_to_be_told_the_same_are_told_by_one_command(outbox):
    outbox.peer_added(B)
    outbox.peer_added(C)
    for peer, med in ((A, 0), (B, 7), (C, 0)):
        outbox.want(RouteKey(peer, P), route(P, med))
    assert drain(outbox) == [Announce((A, C), route(P)), Announce((B,), route(P, 7))]

    for peer in PEERS:
        outbox.want(RouteKey(peer, P), None)

    assert drain(outbox) == [Withdraw((A, B, C), P)]


def test_a_command_for_many_peers_has_a_bound_and_so_has_what_is_in_flight():
    outbox = Outbox()
    peers = [ip_address((10 << 24) + n) for n in range(4 * PEERS_PER_COMMAND)]
    for peer in peers:
        outbox.peer_added(peer)
        outbox.want(RouteKey(peer, P), route(P))

    sent = []
    while (command := outbox.next_command(0.0)) is not None:
        sent.append(len(command.peers))

    assert sent == [PEERS_PER_COMMAND] * (WINDOW_KEYS // PEERS_PER_COMMAND)
    outbox.answered(True, 0.0)
    assert outbox.next_command(0.0) is not None


def test_one_peer_of_a_command_may_go_and_the_answer_counts_for_the_others(outbox):
    outbox.peer_added(B)
    for peer in (A, B):
        outbox.want(RouteKey(peer, P), route(P))
    outbox.next_command(0.0)
    outbox.peer_removed(B)
    outbox.answered(True, 0.0)

    assert outbox.is_told(RouteKey(A, P))
    assert outbox.told_count(B, Family.IPV4) == 0


def test_a_refused_route_waits_longer_each_time_and_does_not_stop_the_others(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.want(RouteKey(A, Q), route(Q))
    outbox.next_command(0.0)
    outbox.next_command(0.0)
    outbox.answered(False, 0.0)
    outbox.answered(True, 0.0)
    waits, now = [], 0.0
    for _ in range(8):
        waits.append(outbox.next_retry_at - now)
        assert outbox.next_command(outbox.next_retry_at - 0.01) is None
        now = outbox.next_retry_at
        assert outbox.next_command(now) == Announce((A,), route(P))
        outbox.answered(False, now)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (waits[0], waits[-1]) == (RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS)
    assert (outbox.failing[RouteKey(A, P)].reason, outbox.failing[RouteKey(A, P)].count) == ("speakerRefused", 9)
    assert set(outbox.failing) == {RouteKey(A, P)}


def test_something_else_wanted_is_tried_at_once_after_a_refusal(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.next_command(0.0)
    outbox.answered(False, 0.0)
    outbox.want(RouteKey(A, P), route(P, med=7))

    assert outbox.next_command(0.0) == Announce((A,), route(P, med=7))
    assert not outbox.failing


def test_end_of_rib_waits_for_the_answers_of_its_own_peer_only(outbox):
    outbox.peer_added(B)
    outbox.want(RouteKey(A, P), route(P))
    outbox.session_up(A, {Family.IPV4})
    outbox.session_up(B, {Family.IPV4, Family.IPV6})

    first = [outbox.next_command(0.0) for _ in range(3)]

    assert first == [SendEndOfRib(B, Family.IPV4), SendEndOfRib(B, Family.IPV6), Announce((A,), route(P))]
    assert outbox.next_command(0.0) is None
    for _ in first:
        outbox.answered(True, 0.0)
    assert outbox.next_command(0.0) == SendEndOfRib(A, Family.IPV4)


def test_a_refused_route_does_not_hold_back_end_of_rib(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.session_up(A, {Family.IPV4})
    outbox.next_command(0.0)
    outbox.answered(False, 0.0)

    assert outbox.next_command(0.0) == SendEndOfRib(A, Family.IPV4)


def test_end_of_rib_that_is_put_off_comes_after_what_is_wanted_then(outbox):
    outbox.peer_added(B)
    outbox.put_off_end_of_rib([A])
    for peer in (A, B):
        outbox.session_up(peer, {Family.IPV4})
    assert outbox.next_command(0.0) == SendEndOfRib(B, Family.IPV4)
    assert outbox.next_command(0.0) is None

    outbox.want(RouteKey(A, P), route(P))
    outbox.put_off_end_of_rib(())

    assert outbox.next_command(0.0) == Announce((A,), route(P))
    assert outbox.next_command(0.0) is None
    for _ in range(2):
        outbox.answered(True, 0.0)
    assert outbox.next_command(0.0) == SendEndOfRib(A, Family.IPV4)


def test_a_refused_end_of_rib_is_tried_again_unless_the_session_is_gone(outbox):
    outbox.session_up(A, {Family.IPV4})
    outbox.next_command(0.0)
    outbox.answered(False, 0.0)
    assert outbox.next_command(RETRY_FIRST_SECONDS) == SendEndOfRib(A, Family.IPV4)
    outbox.answered(False, 1.0)

    outbox.session_down(A)

    assert outbox.next_retry_at is None


def test_a_new_session_of_a_settled_peer_gets_nothing_but_end_of_rib(outbox):
    outbox.want(RouteKey(A, P), route(P))
    drain(outbox)
    outbox.session_down(A)
    outbox.session_up(A, {Family.IPV4})

    assert drain(outbox) == [SendEndOfRib(A, Family.IPV4)]


def test_an_agent_that_comes_back_and_wants_the_same_sends_nothing():
    outbox = Outbox()
    outbox.want(RouteKey(A, P), route(P))

    differed = outbox.read_back({RouteKey(A, P): route(P)}, [A])

    assert differed == 0
    assert outbox.next_command(0.0) is None


def test_the_audit_counts_and_mends_what_differs_and_leaves_other_peers_alone(outbox):
    outbox.peer_added(B)
    for key in (RouteKey(A, P), RouteKey(A, Q), RouteKey(B, P)):
        outbox.want(key, route(key.prefix))
    drain(outbox)
    strange = PREFIXES[2]

    differed = outbox.read_back({RouteKey(A, Q): route(Q, med=9), RouteKey(A, strange): route(strange)}, [A])

    assert differed == 3
    assert set(drain(outbox)) == {Announce((A,), route(P)), Announce((A,), route(Q)), Withdraw((A,), strange)}


def test_an_answer_in_flight_to_a_peer_made_anew_is_not_believed(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.next_command(0.0)
    outbox.peer_removed(A)
    assert not outbox.may_hold(P)
    outbox.peer_added(A)
    outbox.answered(True, 0.0)

    assert outbox.next_command(0.0) == Announce((A,), route(P))


def test_an_answer_in_flight_to_a_peer_that_lost_its_table_is_not_believed(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.next_command(0.0)
    outbox.peer_added(A)
    assert outbox.may_hold(P)
    outbox.answered(True, 0.0)

    assert outbox.next_command(0.0) == Announce((A,), route(P))


def test_an_answer_for_a_peer_that_is_gone_does_not_bring_its_routes_back(outbox):
    outbox.want(RouteKey(A, P), route(P))
    outbox.next_command(0.0)
    outbox.peer_removed(A)
    outbox.answered(True, 0.0)

    assert not outbox.may_hold(P)
    assert outbox.told_count(A, Family.IPV4) == 0


def test_an_answer_to_nothing_is_an_error(outbox):
    with pytest.raises(ValueError, match="nothing was in flight"):
        outbox.answered(True, 0.0)


class Counted(Route):
    """A route that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other):
        Counted.compared += 1
        return self is other

    __hash__ = Route.__hash__


@pytest.mark.parametrize("step", ["adding", "removing"])
def test_a_peer_that_comes_or_goes_is_judged_a_few_keys_at_a_time(step):
    outbox = Outbox()
    outbox.peer_added(A)
    prefixes = [ip_network(f"10.{high}.{low}.0/24") for high in range(20) for low in range(250)]
    for prefix in prefixes:
        outbox.want(RouteKey(A, prefix), route(prefix))
    drain(outbox)

    assert len(list(getattr(outbox, step)(A))) >= 2 * len(prefixes) / KEYS_PER_STEP - 2


def test_a_change_costs_the_same_among_ten_thousand(outbox):
    prefixes = [ip_network((n << 8 | 10 << 24, 24)) for n in range(10_000)]
    for prefix in prefixes:
        outbox.want(RouteKey(A, prefix), Counted(prefix, SELF))
    assert len(drain(outbox)) == 10_000
    Counted.compared = 0

    outbox.want(RouteKey(A, prefixes[5]), Counted(prefixes[5], SELF))
    drain(outbox)

    assert Counted.compared < 10
