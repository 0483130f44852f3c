from loadtest.chaos.counters import problems_of


def test_results_must_equal_lookups() -> None:
    text = (
        "# TYPE absorb_cache_lookups counter\n"
        'absorb_cache_lookups_total{{model="m"}} {}\n'
        "# TYPE absorb_cache_results counter\n"
        'absorb_cache_results_total{{model="m",result="hit"}} 3.0\n'
        'absorb_cache_results_total{{model="m",result="miss"}} 2.0\n'
        "# TYPE absorb_cache_tier_lookups counter\n"
        'absorb_cache_tier_lookups_total{{tier="host"}} {}\n'
        "# TYPE absorb_cache_tier_results counter\n"
        'absorb_cache_tier_results_total{{tier="host",result="hit"}} 4.0\n'
    )
    assert problems_of(text.format(5, 4)) == []
    assert problems_of(text.format(6, 4)) == ["counters of m: results come to 5, lookups to 6"]
    assert problems_of(text.format(5, 3)) == ["counters of host: results come to 4, lookups to 3"]
    assert len(problems_of("")) == 2
