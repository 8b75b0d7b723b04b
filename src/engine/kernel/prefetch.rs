//! The one way to have memory fetched before it is looked at. Called by tables and by look-ahead; a hint, so it decides
//! nothing and needs no care to be right.

/// Has the cache line at this address fetched. A hint: any address will do.
#[inline]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program could see, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Has all cache lines of a value fetched.
#[inline]
pub fn prefetch_whole<T>(value: &T) {
    let at = std::ptr::from_ref(value).cast::<u8>();
    for offset in (0..size_of::<T>()).step_by(64) {
        prefetch(at.wrapping_add(offset));
    }
    prefetch(at.wrapping_add(size_of::<T>().saturating_sub(1)));
}
