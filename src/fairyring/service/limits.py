"""How often somebody may ask: a bucket of requests that fills up again."""

from collections import OrderedDict

from fairyring.service.refusals import Refused


class Rates:
    """Limits of requests by who sends them.

    Args:
        rate: requests a second that one sender may make for long.
        burst: that it may make at once.
        remembered: how many senders are remembered; those who asked longest ago are forgotten, which lets them begin anew.
    """

    def __init__(self, rate: float = 20.0, burst: float = 100.0, remembered: int = 50_000) -> None:
        self.rate, self.burst, self._remembered = rate, burst, remembered
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, sender: str, now: float) -> None:
        """Count a request.

        Raises:
            Refused: there were too many.
        """
        left, at = self._left.pop(sender, (self.burst, now))
        left = min(self.burst, left + max(0.0, now - at) * self.rate)
        allowed = left >= 1.0
        self._left[sender] = (left - 1.0 if allowed else left, now)
        if len(self._left) > self._remembered:
            self._left.popitem(last=False)
        if not allowed:
            wait = (1.0 - left) / self.rate
            raise Refused(
                "too_many", "more requests than one sender may make",
                f"at most {self.rate:g} a second", "Wait.", max(0.05, wait),
            )  # fmt: skip
