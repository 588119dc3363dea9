// A doubly linked list of slots in two arrays: the order behind LRU and its kin.
#pragma once

#include "base/alloc.h"

namespace larder {

class SlotList {
  public:
    static constexpr uint32_t none = UINT32_MAX;
    explicit SlotList(const Allocator& a) : links_(a) {}

    void reserve(size_t n) {
        if (n > links_.size()) links_.resize(n, Link{none, none});
    }
    void push_front(uint32_t i) noexcept {
        links_[i] = {none, front_};
        (front_ == none ? back_ : links_[front_].prev) = i;
        front_ = i;
        ++size_;
    }
    void push_back(uint32_t i) noexcept {
        links_[i] = {back_, none};
        (back_ == none ? front_ : links_[back_].next) = i;
        back_ = i;
        ++size_;
    }
    void remove(uint32_t i) noexcept {
        const Link l = links_[i];
        (l.prev == none ? front_ : links_[l.prev].next) = l.next;
        (l.next == none ? back_ : links_[l.next].prev) = l.prev;
        --size_;
    }
    void move_to_back(uint32_t i) noexcept {
        if (i == back_) return;
        remove(i);
        push_back(i);
    }
    uint32_t pop_front() noexcept {
        const uint32_t i = front_;
        if (i != none) remove(i);
        return i;
    }
    uint32_t front() const noexcept { return front_; }
    uint32_t next(uint32_t i) const noexcept { return links_[i].next; }
    size_t size() const noexcept { return size_; }

  private:
    struct Link {
        uint32_t prev, next;
    };
    Vec<Link> links_;
    uint32_t front_ = none, back_ = none;
    size_t size_ = 0;
};

}  // namespace larder
