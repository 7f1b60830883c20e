"""What is to be sent to people, and when: grouped, limited, held back in quiet hours, repeated. A state machine whose
clock is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ssm_stream.config import Notify
from ssm_stream.kafka.groups.reader import Place
from ssm_stream.notify.alerts import Episode, News
from ssm_stream.notify.quiet import QuietHours

What = Literal["started", "escalated", "open", "recovered", "passed"]
"""`open`: it is sent again, as it is still open; `passed`: it has started and recovered since the last message."""
REPEAT_TOGETHER = 0.1
"""Share of `repeat` by which one may be repeated earlier, together with others."""


@dataclass
class Entry:
    """News of one episode. places: of the messages behind it; added: s; held: it has waited for quiet hours to end"""

    episode: Episode
    what: What
    added: float
    held: bool = False
    places: list[Place] = field(default_factory=list)


class Batch(NamedTuple):
    """What one message has. digest: of quiet hours; held_back: seconds that the limit has delayed it"""

    entries: list[Entry]
    digest: bool = False
    held_back: float = 0.0
    first: bool = False


class Outbox:
    """Decides what is sent to one target, and when.

    Call `add` for each message, `tick` now and then, and `take`; call `sent` for a batch that was delivered. One that
    was not is taken again, with what came meanwhile.
    """

    def __init__(self, notify: Notify, quiet: QuietHours) -> None:
        self._notify, self._quiet = notify, quiet
        self._entries: dict[str, Entry] = {}
        self._capacity = max(notify.per_hour / 4, 1.0)
        self._tokens, self._refilled = self._capacity, -math.inf
        self._limited_since: float | None = None
        self._done: list[Place] = []
        self._hello = False

    def __len__(self) -> int:
        return len(self._entries)

    def greet(self, episodes: Iterable[Episode], now: float) -> None:
        """Put the first message of all to a target: that it is on, and what is open."""
        self._hello = True
        for episode in episodes:
            self._entries.setdefault(episode.id, Entry(episode, "open", now))

    def add(self, episode: Episode, news: News, place: Place, now: float) -> bool:
        """Add what a message brings; return whether there is something to send.

        Of errors that have only become smaller people get nothing: there is nothing to be done.

        place: of the message, which `pop_done` returns once it is sent
        """
        entry = self._entries.get(episode.id)
        if news == "recovered":
            if entry is not None and not episode.announced:
                entry.what = "passed"
            elif episode.announced:
                entry = self._put(episode, "recovered", now)
        elif not episode.announced:
            entry = entry or (None if episode.needs_nothing else self._put(episode, "started", now))
        elif news == "escalated":
            entry = self._put(episode, "escalated", now)
        if entry is None:
            return False
        entry.places.append(place)
        return True

    def add_again(self, episode: Episode, place: Place, now: float, *, over: bool) -> None:
        """Add an alert that could not be sent before. over: it has recovered meanwhile"""
        entry = self._entries.get(episode.id) or self._put(episode, "passed" if over else "started", now)
        entry.places.append(place)

    def _put(self, episode: Episode, what: What, now: float) -> Entry:
        entry = self._entries.setdefault(episode.id, Entry(episode, what, now))
        entry.what = what
        return entry

    def tick(self, episodes: Iterable[Episode], now: float) -> None:
        """Add the episodes that are to be repeated: announced, open, and acknowledged by nobody."""
        every = self._notify.repeat
        if every is None:
            return
        open_ones = [e for e in episodes if e.announced and e.acknowledged is None and e.id not in self._entries]
        if any(now - episode.sent_at >= every for episode in open_ones):
            for episode in open_ones:
                if now - episode.sent_at >= (1 - REPEAT_TOGETHER) * every:
                    self._entries[episode.id] = Entry(episode, "open", now)

    def forget_repeat(self, episode: Episode) -> None:
        """Do not repeat an episode that somebody has acknowledged meanwhile."""
        entry = self._entries.get(episode.id)
        if entry is not None and entry.what == "open":
            del self._entries[episode.id]

    def take(self, now: float) -> Batch | None:
        """Return what is to be sent now; None if nothing is."""
        quiet = self._quiet.contains(now)
        due = list[Entry]()
        for entry in self._entries.values():
            if quiet and not entry.episode.critical:
                entry.held = True
            else:
                due.append(entry)
        hello = self._hello
        if not due and not hello:
            return None
        digest = not quiet and any(entry.held for entry in due)
        if not digest and not hello and now < min(entry.added for entry in due) + self._notify.group:
            return None
        self._refill(now)
        if self._tokens < 1:
            if self._limited_since is None:
                self._limited_since = now
            return None
        return Batch(due, digest, self.held_back(now), hello)

    def held_back(self, now: float) -> float:
        """Return for how many seconds the limit has held back what is to be sent."""
        return 0.0 if self._limited_since is None else now - self._limited_since

    def _refill(self, now: float) -> None:
        gained = max(now - self._refilled, 0.0) * self._notify.per_hour / 3600
        self._tokens, self._refilled = min(self._tokens + gained, self._capacity), now

    def sent(self, batch: Batch, now: float, messages: int = 1) -> None:
        """Note that a batch was sent. messages: as which it was"""
        self._tokens -= messages
        self._limited_since, self._hello = None, False
        for entry in batch.entries:
            episode = entry.episode
            episode.announced, episode.sent_at = True, now
            if self._entries.get(episode.id) is entry:
                del self._entries[episode.id]
            self._done += entry.places

    def drop(self, entries: Iterable[Entry]) -> None:
        """Remove entries that are given up."""
        for entry in entries:
            if self._entries.get(entry.episode.id) is entry:
                del self._entries[entry.episode.id]

    def pop_done(self) -> list[Place]:
        """Return the places of the messages that are sent since the last call."""
        done, self._done = self._done, []
        return done
