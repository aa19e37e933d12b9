"""The shipped dunning on the calendar: paydays, hours, office days, zones and clock changes."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.support.dunning import BERLIN, EXPIRED, SOFT, Dunning, declined

NEW_YORK = ZoneInfo("America/New_York")


def test_dunning_tries_on_the_days_of_its_schedule() -> None:
    """A day, three, five, seven, ten and thirteen after the first failure, moved to a payday that
    is at most three days away, never twice on one day.
    """
    dunning = Dunning(SOFT)
    assert dunning.finish() == "downgraded"
    assert dunning.times("charge_payment_method") == [
        "Mon 10-05 14:00",
        "Tue 10-06 14:00",
        "Thu 10-08 14:00",
        "Sat 10-10 14:00",
        "Thu 10-15 00:05",  # from the 12th to the payday three days later
        "Fri 10-16 00:05",  # the tenth day is that payday, but it was tried on already
        "Sun 10-18 14:00",
    ]


def test_dunning_mails_in_office_hours_of_the_country() -> None:
    """Nobody is mailed at night, on a weekend or on a holiday; the grace period counts from the
    mail, and is never shorter than promised.
    """
    dunning = Dunning(SOFT)
    dunning.finish()
    assert dunning.times("send_email") == [
        "Tue 10-06 14:00",
        "Thu 10-08 14:00",
        "Mon 10-12 09:00",
        "Thu 10-15 09:00",
        "Fri 10-16 09:00",
        "Mon 10-19 09:00",
    ]
    # Sixteen days of 24 hours over the end of summer time are 15 days and 23 hours on the clock.
    assert dunning.times("downgrade_account") == ["Wed 11-04 08:00"]


def test_dunning_keeps_the_local_hour_over_the_start_of_summer_time() -> None:
    """29 March has 23 hours in Berlin: tries stay at the customer's hour, and tries that paydays
    draw together are on days of their own.
    """
    dunning = Dunning(SOFT, now=datetime(2026, 3, 22, 20, 30, tzinfo=BERLIN))
    dunning.finish()
    assert dunning.times("charge_payment_method") == [
        "Sun 03-22 20:30",
        "Mon 03-23 20:30",
        "Wed 03-25 20:30",
        "Fri 03-27 20:30",
        "Tue 03-31 00:05",  # from Sunday 29 March to the last of the month
        "Wed 04-01 20:30",
        "Sat 04-04 20:30",
    ]
    assert dunning.charges[3].at.astimezone(UTC).hour == 19
    assert dunning.charges[5].at.astimezone(UTC).hour == 18


def test_dunning_keeps_to_paydays_over_the_end_of_summer_time() -> None:
    """1 November has 25 hours in New York, and is a Sunday and a payday, as the last before it."""
    dunning = Dunning(
        SOFT,
        data={"customer_timezone": "America/New_York", "country": "US"},
        now=datetime(2026, 10, 20, 10, tzinfo=NEW_YORK),
    )
    dunning.finish()
    assert dunning.times("charge_payment_method", NEW_YORK) == [
        "Tue 10-20 10:00",
        "Wed 10-21 10:00",
        "Fri 10-23 10:00",
        "Sun 10-25 10:00",
        "Fri 10-30 00:05",  # the last is a Saturday and the first a Sunday: wages come on Friday
        "Sat 10-31 00:05",
        "Tue 11-03 00:05",  # the mail about Saturday went out on Monday
    ]
    assert [call.at.astimezone(UTC).hour for call in dunning.charges[-2:]] == [4, 5]
    assert dunning.times("downgrade_account", NEW_YORK) == ["Thu 11-19 09:00"]


def test_dunning_does_not_charge_in_the_middle_of_the_night() -> None:
    """A card that failed late in the evening is tried after midnight, when accounts are booked."""
    dunning = Dunning(SOFT, now=datetime(2026, 10, 5, 23, 30, tzinfo=BERLIN))
    dunning.wait("3d")
    assert dunning.times("charge_payment_method") == ["Mon 10-05 23:30", "Wed 10-07 00:05"]


def test_dunning_obeys_the_network_s_advice_to_wait() -> None:
    """The advice to wait for ten days holds, whatever the schedule says."""
    advised = declined("do_not_honor") | {"network_advice_code": "30"}
    dunning = Dunning(advised, SOFT, data={"card_network": "mastercard"})
    dunning.finish()
    assert dunning.times("charge_payment_method")[:2] == ["Mon 10-05 14:00", "Thu 10-15 14:00"]


@pytest.mark.parametrize(
    ("country", "mailed"), [("DE", "Mon 12-28 09:00"), (None, "Fri 12-25 12:00")]
)
def test_dunning_leaves_people_in_peace_on_holidays(country: str | None, mailed: str) -> None:
    """Christmas is a holiday where it is one; without a country only weekends are."""
    start = datetime(2026, 12, 24, 12, tzinfo=BERLIN)
    dunning = Dunning(EXPIRED, now=start, data={"country": country})
    dunning.wait("5d")
    assert dunning.times("send_email")[0] == mailed
