/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/rtc.c - MC146818 real-time clock.
 *
 * Nothing ticks: the date registers are computed from the guest's wall clock when they are read.  A write to one
 * recomputes the whole date, and offset_s keeps its difference to the wall clock.  While register B's SET bit halts the
 * clock, the date registers are plain memory in ram. */
#include "kernel/dev/devices.h"
#include "kernel/lib/log.h"

enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY,
    MONTH,
    YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    CENTURY = 0x32
};
#define A_UIP    0x80
#define B_SET    0x80
#define B_BINARY 0x04
#define B_24H    0x02
#define UIP_NS   244000u /* UIP is set this long before an update */
#define NS_PER_S UINT64_C(1000000000)

_Static_assert(CENTURY < sizeof(((struct rtc *)0)->ram), "all registers lie in ram");
static const uint8_t date_regs[] = { SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY };

static bool rtc_is_date_reg(uint8_t reg)
{
    for (unsigned i = 0; i < sizeof(date_regs); i++)
        if (date_regs[i] == reg)
            return true;
    return false;
}

void rtc_reset(struct vm *vm)
{
    struct rtc *r = &vm->devices->rtc;
    lock_assert_held(&vm->dev_lock);
    r->index = 0;
    r->ram[REG_A] = 0x26; /* 32768 Hz, 1024 Hz rate */
    r->ram[REG_B] = B_24H;
    r->ram[REG_C] = 0;
    r->ram[REG_D] = 0x80; /* battery good */
}

/* ---- days and dates ----
 * Proleptic Gregorian, counted from 1970-01-01 with years that start in March, so that the leap day is the last. */

static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
    if (month <= 2)
        year--;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned yoe = (unsigned)(year - era * 400);
    unsigned doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

static void date_from_days(int64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned doe = (unsigned)(days - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned m = (5 * doy + 2) / 153;
    *day = doy - (153 * m + 2) / 5 + 1;
    *month = m < 10 ? m + 3 : m - 9;
    *year = (unsigned)((int64_t)yoe + era * 400 + (*month <= 2));
}

/* ---- registers to values and back ---- */

static uint8_t rtc_encode(const struct rtc *r, unsigned v)
{
    return (uint8_t)(r->ram[REG_B] & B_BINARY ? v : (v / 10 % 10) << 4 | v % 10);
}
static unsigned rtc_decode(const struct rtc *r, uint8_t v)
{
    return r->ram[REG_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t rtc_encode_hour(const struct rtc *r, unsigned h)
{
    if (r->ram[REG_B] & B_24H)
        return rtc_encode(r, h);
    return (uint8_t)(rtc_encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0));
}
static unsigned rtc_decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->ram[REG_B] & B_24H)
        return rtc_decode(r, v);
    return rtc_decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* Set the date registers in ram to the current date. */
static void rtc_update_ram(struct vm *vm)
{
    struct rtc *r = &vm->devices->rtc;
    int64_t s = (int64_t)(guest_wall_ns(vm) / NS_PER_S) + r->offset_s;
    if (s < 0)
        s = 0;
    unsigned year, month, day, tod = (unsigned)(s % 86400);
    date_from_days(s / 86400, &year, &month, &day);
    r->ram[SECONDS] = rtc_encode(r, tod % 60);
    r->ram[MINUTES] = rtc_encode(r, tod / 60 % 60);
    r->ram[HOURS] = rtc_encode_hour(r, tod / 3600);
    r->ram[WEEKDAY] = rtc_encode(r, (unsigned)((s / 86400 + 4) % 7 + 1));
    r->ram[DAY] = rtc_encode(r, day);
    r->ram[MONTH] = rtc_encode(r, month);
    r->ram[YEAR] = rtc_encode(r, year % 100);
    r->ram[CENTURY] = rtc_encode(r, year / 100);
}

/* Make the date registers in ram the current date. */
static void rtc_set_date_from_ram(struct vm *vm)
{
    struct rtc *r = &vm->devices->rtc;
    unsigned month = rtc_decode(r, r->ram[MONTH]),
             year = rtc_decode(r, r->ram[CENTURY]) * 100 + rtc_decode(r, r->ram[YEAR]);
    if (month < 1)
        month = 1;
    if (month > 12)
        month = 12;
    int64_t s = days_from_date(year, month, rtc_decode(r, r->ram[DAY])) * 86400;
    s +=
        rtc_decode_hour(r, r->ram[HOURS]) * 3600 + rtc_decode(r, r->ram[MINUTES]) * 60 + rtc_decode(r, r->ram[SECONDS]);
    r->offset_s = s - (int64_t)(guest_wall_ns(vm) / NS_PER_S);
}

uint8_t rtc_port_read(struct vm *vm, uint16_t port)
{
    struct rtc *r = &vm->devices->rtc;
    lock_assert_held(&vm->dev_lock);
    ASSERT(r->index < sizeof(r->ram));
    if (port == 0x70)
        return 0xff; /* write-only */
    bool held = r->ram[REG_B] & B_SET;
    if (r->index == REG_A) {
        bool uip = !held && guest_wall_ns(vm) % NS_PER_S >= NS_PER_S - UIP_NS;
        return (uint8_t)((r->ram[REG_A] & 0x7f) | (uip ? A_UIP : 0));
    }
    if (rtc_is_date_reg(r->index) && !held)
        rtc_update_ram(vm);
    return r->ram[r->index];
}

static void rtc_reg_b_write(struct vm *vm, uint8_t val)
{
    struct rtc *r = &vm->devices->rtc;
    bool was_held = r->ram[REG_B] & B_SET, held = val & B_SET;
    if (held && !was_held)
        rtc_update_ram(vm);
    if (was_held && !held)
        rtc_set_date_from_ram(vm);
    r->ram[REG_B] = val;
}

void rtc_port_write(struct vm *vm, uint16_t port, uint8_t val)
{
    struct rtc *r = &vm->devices->rtc;
    lock_assert_held(&vm->dev_lock);
    ASSERT(r->index < sizeof(r->ram));
    if (port == 0x70) {
        r->index = val & 0x7f;
        return;
    }
    if (r->index == REG_B) {
        rtc_reg_b_write(vm, val);
        return;
    }
    if (r->index == REG_C || r->index == REG_D)
        return;
    if (rtc_is_date_reg(r->index) && !(r->ram[REG_B] & B_SET)) {
        rtc_update_ram(vm);
        r->ram[r->index] = val;
        rtc_set_date_from_ram(vm);
    } else {
        r->ram[r->index] = val;
    }
}
