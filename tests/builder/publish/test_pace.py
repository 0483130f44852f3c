"""What a publish reports while it writes."""

from builder.publish.pace import Pace


def test_the_pace_is_keys_per_second_and_seconds_left():
    now_s = [100.0]
    reported: list[tuple[int, int, str]] = []
    pace = Pace(
        1000, 2, lambda done, total, note="": reported.append((done, total, note)), lambda: now_s[0]
    )

    now_s[0] += 2.0
    pace.add(100)
    now_s[0] += 2.0
    pace.add(300)

    assert reported == [
        (0, 1000, "users"),
        (100, 1000, "users, 100 keys/s, 18 s left"),
        (400, 1000, "users, 200 keys/s, 6 s left"),
    ]


def test_a_batch_in_no_time_has_no_pace():
    reported: list[str] = []
    pace = Pace(10, 1, lambda done, total, note="": reported.append(note), lambda: 5.0)

    pace.add(10)

    assert reported[-1] == "users, 0 keys/s, 0 s left"
